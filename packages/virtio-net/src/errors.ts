/**
 * `ENODEV`: the device is gone, broken, or the driver was closed. `EPROTO`: it is no network device, or its configuration
 * makes no sense. `ENOSPC`: fewer receive buffers than one frame needs. `EIO`: a capture could not be written. Of control
 * requests: `ENOTSUP`: not negotiated. `EINVAL`: the device refuses. `ETIMEDOUT`: it does not answer.
 */
export type NetErrorCode = 'ENODEV' | 'EPROTO' | 'ENOSPC' | 'EIO' | 'ENOTSUP' | 'EINVAL' | 'ETIMEDOUT';

/** A network device that cannot be driven, or a capture that failed. */
export class NetError extends Error {
  readonly code: NetErrorCode;

  constructor(code: NetErrorCode, message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'NetError';
    this.code = code;
  }
}
