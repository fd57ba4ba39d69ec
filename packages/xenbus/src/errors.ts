/** A step of the device handshake failed. */
export class XenbusError extends Error {
  /**
   * `ENOENT`: a directory or key is missing. `EINVAL`: it holds nonsense. `EAGAIN`: no transaction came through, there
   * were too many conflicts.
   */
  readonly code: 'ENOENT' | 'EINVAL' | 'EAGAIN';
  readonly path: string;
  constructor(code: XenbusError['code'], path: string, message: string, options?: ErrorOptions) {
    super(`${code}: ${path}: ${message}`, options);
    this.name = 'XenbusError';
    this.code = code;
    this.path = path;
  }
}
