import { getSystemErrorMap } from 'node:util';

/** A kernel call that failed, or that this machine cannot make (`ENOSYS`: no FFI or no Linux). */
export class LinuxError extends Error {
  /** The errno name, as in errno(3): `EAGAIN`, `EPERM`, … */
  readonly code: string;
  /** The call that failed, as in its manual page: `mmap`, `recvmsg`, … */
  readonly syscall: string;

  constructor(code: string, syscall: string, detail: string) {
    super(`${code}: ${syscall}: ${detail}`);
    this.name = 'LinuxError';
    this.code = code;
    this.syscall = syscall;
  }
}

/** The error for an errno number. `detail` is added to the kernel's own text. */
export function linuxError(errno: number, syscall: string, detail: string = ''): LinuxError {
  const [code, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, 'unknown error'];
  return new LinuxError(code, syscall, detail === '' ? text : `${text} (${detail})`);
}

/** A call of `node:fs` that failed, as an error of this package; anything else as it is. */
export function fromNodeError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof LinuxError) return error;
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  return new LinuxError(code, syscall, message.replace(`${code}: `, ''));
}
