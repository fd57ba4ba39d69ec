import type { MemoryRegion } from '@virtlab/guest-memory';

/** Bits in one posting area: MSI vectors of a domain, or doorbells of a device model. */
export const POSTED_BIT_COUNT = 256;
const WORD_COUNT = POSTED_BIT_COUNT / 32;
/** The word after the bits: set when any bit was, cleared before they are looked at. */
const OUTSTANDING = WORD_COUNT;

/**
 * A posting area in shared memory: a bitmap and an "outstanding" word, after the posted-interrupt descriptor of VT-d.
 * The poster sets the bit, then the outstanding word, then rings the doorbell; the taker clears the outstanding word, then
 * takes the bits. A bit set between the two is either taken now or leaves the outstanding word set, so none is lost.
 * The poster always rings (the doorbell suppresses itself): if it relied on having set the outstanding word first, its death
 * in between would silence every later poster.
 */
export class PostedBits {
  readonly #words: Int32Array;
  readonly #base: number;

  constructor(region: MemoryRegion, offset: number) {
    this.#words = region.i32;
    this.#base = offset / 4;
  }

  post(bit: number): void {
    Atomics.or(this.#words, this.#base + (bit >>> 5), 1 << (bit & 31));
    Atomics.store(this.#words, this.#base + OUTSTANDING, 1);
  }

  hasOutstanding(): boolean {
    return Atomics.load(this.#words, this.#base + OUTSTANDING) !== 0;
  }

  /** Calls `take` for every posted bit, each cleared first; answers how many. */
  drain(take: (bit: number) => void): number {
    if (Atomics.exchange(this.#words, this.#base + OUTSTANDING, 0) === 0) return 0;
    let taken = 0;
    for (let word = 0; word < WORD_COUNT; word += 1) {
      if (Atomics.load(this.#words, this.#base + word) === 0) continue;
      let bits = Atomics.exchange(this.#words, this.#base + word, 0);
      while (bits !== 0) {
        const bit = 31 - Math.clz32(bits & -bits);
        bits &= bits - 1;
        taken += 1;
        take(word * 32 + bit);
      }
    }
    return taken;
  }
}
