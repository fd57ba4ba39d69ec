import { ffi, lastErrno, lastError, type Ffi, type LibC } from './ffi.ts';
import { closeFd, setNonblocking } from './fd.ts';
import {
  EAGAIN,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EINTR,
  EOPNOTSUPP,
  IOVEC_SIZE,
  RWF_NOWAIT,
} from './kernel-abi.ts';

const COUNTER_SIZE = 8;

/** What is read, and the iovec that says where, in native memory with fixed addresses, for all counters of this thread in turn. */
class CounterArea {
  readonly vectorAt: bigint;
  readonly counterAt: bigint;

  constructor({ koffi }: Ffi) {
    this.vectorAt = koffi.alloc('uint8_t', IOVEC_SIZE + COUNTER_SIZE) as bigint;
    this.counterAt = this.vectorAt + BigInt(IOVEC_SIZE);
    new BigUint64Array(koffi.view(this.vectorAt, IOVEC_SIZE)).set([this.counterAt, BigInt(COUNTER_SIZE)]);
  }
}

let area: CounterArea | undefined;

/**
 * eventfd(2): a 64-bit counter that polls readable while it is not zero. The doorbell between processes: any
 * number of writes before the reader looks are one wake-up. Owns its descriptor until `close`.
 */
export class EventFd implements Disposable {
  readonly #libc: LibC;
  readonly #area: CounterArea;
  #fd: number;

  private constructor(native: Ffi, fd: number) {
    this.#libc = native.libc;
    this.#area = area ??= new CounterArea(native);
    this.#fd = fd;
  }

  /** A new counter of 0, close-on-exec and non-blocking. */
  static create(): EventFd {
    const native = ffi('eventfd');
    const fd = native.libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) throw lastError('eventfd');
    return new EventFd(native, fd);
  }

  /**
   * Takes ownership of a received descriptor and makes it non-blocking. On an error the caller still owns it.
   */
  static fromFd(fd: number): EventFd {
    const native = ffi('eventfd');
    setNonblocking(fd);
    return new EventFd(native, fd);
  }

  /** The descriptor, or -1 after `close`. */
  get fd(): number {
    return this.#fd;
  }

  /**
   * Adds 1. Allocates nothing. A counter at its maximum is readable already, so `EAGAIN` is no error. Waits at that maximum if
   * another owner of the open file made it blocking: the kernel has no write to a counter that goes by itself.
   */
  write(): void {
    while (this.#libc.eventfd_write(this.#fd, 1) < 0) {
      const errno = lastErrno();
      if (errno === EAGAIN) return;
      if (errno !== EINTR) throw lastError('eventfd_write', `fd ${this.#fd}`);
    }
  }

  /**
   * Takes the counter back to 0; one made with EFD_SEMAPHORE down by 1. True when it was not 0. Never waits, whatever other owners
   * of the open file made of its flags (before Linux 5.8: unless they made it blocking, and take what is there at that moment).
   */
  read(): boolean {
    const { vectorAt, counterAt } = this.#area;
    for (;;) {
      let size = this.#libc.preadv2(this.#fd, vectorAt, 1, -1, RWF_NOWAIT);
      if (size < 0 && lastErrno() === EOPNOTSUPP) size = this.#libc.read(this.#fd, counterAt, COUNTER_SIZE);
      if (size === COUNTER_SIZE) return true;
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
