import { ffi, lastErrno, lastError, type LibC } from './ffi.ts';
import { closeFd, setNonblocking } from './fd.ts';
import { EAGAIN, EFD_CLOEXEC, EFD_NONBLOCK, EINTR } from './kernel-abi.ts';

const COUNTER_SIZE = 8;
const counter = new Uint8Array(COUNTER_SIZE);

/**
 * eventfd(2): a 64-bit counter that polls readable while it is not zero. The doorbell between processes: any
 * number of writes before the reader looks are one wake-up. Owns its descriptor until `close`.
 */
export class EventFd implements Disposable {
  readonly #libc: LibC;
  #fd: number;

  private constructor(libc: LibC, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
  }

  /** A new counter of 0, close-on-exec and non-blocking. */
  static create(): EventFd {
    const { libc } = ffi('eventfd');
    const fd = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) throw lastError('eventfd');
    return new EventFd(libc, fd);
  }

  /**
   * Takes ownership of a received descriptor and makes it non-blocking. On an error the caller still owns it.
   */
  static fromFd(fd: number): EventFd {
    const { libc } = ffi('eventfd');
    setNonblocking(fd);
    return new EventFd(libc, fd);
  }

  /** The descriptor, or -1 after `close`. */
  get fd(): number {
    return this.#fd;
  }

  /** Adds 1. Allocates nothing. A counter at its maximum is readable already, so `EAGAIN` is no error. */
  write(): void {
    while (this.#libc.eventfd_write(this.#fd, 1) < 0) {
      const errno = lastErrno();
      if (errno === EAGAIN) return;
      if (errno !== EINTR) throw lastError('eventfd_write', `fd ${this.#fd}`);
    }
  }

  /** Takes the counter back to 0 without blocking. True when it was not 0. */
  read(): boolean {
    for (;;) {
      if (this.#libc.read(this.#fd, counter, COUNTER_SIZE) === COUNTER_SIZE) return true;
      const errno = lastErrno();
      if (errno === EAGAIN) return false;
      if (errno !== EINTR) throw lastError('read', `eventfd ${this.#fd}`);
    }
  }

  /** Closes the descriptor; further calls do nothing. */
  close(): void {
    const fd = this.#fd;
    if (fd < 0) return;
    this.#fd = -1;
    closeFd(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
