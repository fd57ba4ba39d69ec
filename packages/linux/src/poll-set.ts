import { ffi, lastErrno, lastError, type LibC } from './ffi.ts';
import { EINTR, POLLFD_SIZE, POLLIN, POLLNVAL } from './kernel-abi.ts';
import { LinuxError } from './linux-error.ts';

const TIMEOUT_MAX_MS = 0x7fff_ffff;

/**
 * A prepared set of descriptors for poll(2), for the few places where the thread itself must wait. While it
 * waits nothing else of the thread runs, JavaScript signal handlers included. Owns no descriptor.
 */
export class PollSet {
  readonly #libc: LibC;
  #bytes: Uint8Array;
  #i32: Int32Array;
  #i16: Int16Array;
  #count = 0;

  constructor(capacity: number = 4) {
    this.#libc = ffi('poll').libc;
    this.#bytes = new Uint8Array(POLLFD_SIZE * Math.max(1, capacity));
    this.#i32 = new Int32Array(this.#bytes.buffer);
    this.#i16 = new Int16Array(this.#bytes.buffer);
  }

  /** Adds a descriptor to wait for until readable. Its index is stable. */
  add(fd: number): number {
    const index = this.#count;
    if (index * POLLFD_SIZE === this.#bytes.length) this.#grow();
    this.#i32[index * 2] = fd;
    this.#i16[index * 4 + 2] = POLLIN;
    this.#count = index + 1;
    return index;
  }

  /** Stops waiting for the descriptor at an index; the index stays taken. */
  remove(index: number): void {
    if (index < 0 || index >= this.#count)
      throw new RangeError(`No descriptor has index ${index} of ${this.#count}`);
    this.#i32[index * 2] = -1;
    this.#i16[index * 4 + 3] = 0;
  }

  /**
   * Blocks until a descriptor is readable, hung up or in error, or `timeoutMs` (rounded up to whole
   * milliseconds; 0 only looks, Infinity waits for ever) has passed. Interruptions by signals are waited out.
   * The number of ready descriptors. Throws `LinuxError` `EBADF` when a descriptor of the set was closed.
   */
  wait(timeoutMs: number): number {
    const finite = timeoutMs < TIMEOUT_MAX_MS;
    const until = finite && timeoutMs > 0 ? performance.now() + timeoutMs : 0;
    let rest = finite ? Math.ceil(Math.max(0, timeoutMs)) : -1;
    for (;;) {
      const ready = this.#libc.poll(this.#bytes, this.#count, rest);
      if (ready > 0) this.#assertValid();
      if (ready >= 0) return ready;
      if (lastErrno() !== EINTR) throw lastError('poll');
      if (rest > 0) rest = Math.ceil(Math.max(0, until - performance.now()));
    }
  }

  /** Whether the descriptor at an index was readable, hung up or in error at the latest `wait`. */
  isReady(index: number): boolean {
    return this.#i16[index * 4 + 3]! !== 0;
  }

  #assertValid(): void {
    for (let index = 0; index < this.#count; index++) {
      if ((this.#i16[index * 4 + 3]! & POLLNVAL) !== 0) {
        throw new LinuxError('EBADF', 'poll', `fd ${this.#i32[index * 2]} at index ${index} is not open`);
      }
    }
  }

  #grow(): void {
    const bytes = new Uint8Array(this.#bytes.length * 2);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    this.#i32 = new Int32Array(bytes.buffer);
    this.#i16 = new Int16Array(bytes.buffer);
  }
}
