/** Building or running a domain failed. */
export class DomainError extends Error {
  readonly code: 'ENODEV' | 'EINVAL' | 'EIO' | 'ETIMEDOUT' | 'ENOSYS';
  constructor(code: DomainError['code'], message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'DomainError';
    this.code = code;
  }
}
