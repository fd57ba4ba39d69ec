/** The QEMU at the other end did not do what the operation needs. */
export class QemuError extends Error {
  /** `ENODEV`: it ended. `ETIMEDOUT`: it does not answer. `EPROTO`: it refused, or answered nonsense. */
  readonly code: 'ENODEV' | 'ETIMEDOUT' | 'EPROTO';

  constructor(code: QemuError['code'], message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'QemuError';
    this.code = code;
  }
}
