/** The log of pages that were written while a machine migrates ("Migration"): one bit a page, shared with the peer. */
import { VHOST_LOG_PAGE } from '@virtlab/abi/vhost-user';
import type { MappedRegion } from './region-mapping.ts';

const BITS = 8;

export class DirtyLog {
  readonly #mapped: MappedRegion;
  readonly #u8: Uint8Array;
  readonly #onMarked: () => void;
  /** Pages beyond the end of the log that were to be marked: the peer made it too small. */
  lostCount = 0;

  /** `onMarked` runs for each range that was marked, and must be cheap. */
  constructor(mapped: MappedRegion, onMarked: () => void) {
    this.#mapped = mapped;
    this.#u8 = mapped.pieces[0]!.u8;
    this.#onMarked = onMarked;
  }

  /**
   * Marks all pages of `[address, address + size)`, after they were written. Always by an atomic operation, also where the bit
   * seems to be set: the peer takes bits out meanwhile, and a look at a bit must not pass the write before it.
   */
  mark(address: number, size: number): void {
    if (size <= 0) return;
    const u8 = this.#u8;
    const last = Math.floor((address + size - 1) / VHOST_LOG_PAGE);
    for (let page = Math.floor(address / VHOST_LOG_PAGE); page <= last; page += 1) {
      const at = Math.floor(page / BITS);
      if (at < u8.length) Atomics.or(u8, at, 1 << (page % BITS));
      else this.lostCount += 1;
    }
    this.#onMarked();
  }

  /** Whether this is its memory. */
  isOver(mapped: MappedRegion): boolean {
    return this.#mapped === mapped;
  }

  revoke(): void {
    this.#mapped.revoke();
  }
}
