const WORD_BITS = 32;
const WORD_SHIFT = 5;
const WORD_MASK = WORD_BITS - 1;

/**
 * Which references are free: a bitmap (set = free) and a summary of its words. Next fit: the search goes on where it last
 * took something, so a reference rests before it is used again and a run is found without walking what is full. Single
 * references cost one word, seldom a look at the summary; a range costs the words up to the first run that holds it.
 */
export class RefAllocator {
  readonly #free: Int32Array;
  readonly #summary: Int32Array;
  #end: number;
  #freeCount = 0;
  /** Word of the bitmap in which the next search begins. */
  #hint: number;

  /** References `[begin, end)` are free; `extend` can go up to `endMax`. */
  constructor(begin: number, end: number, endMax: number = end) {
    const wordCount = Math.ceil(endMax / WORD_BITS);
    this.#free = new Int32Array(wordCount);
    this.#summary = new Int32Array(Math.ceil(wordCount / WORD_BITS));
    this.#end = end;
    this.#hint = begin >>> WORD_SHIFT;
    for (let ref = begin; ref < end; ref++) this.release(ref);
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** References from the old end up to `end` are free too. */
  extend(end: number): void {
    const from = this.#end;
    this.#end = end;
    for (let ref = from; ref < end; ref++) this.release(ref);
  }

  isFree(ref: number): boolean {
    return (this.#free[ref >>> WORD_SHIFT]! & (1 << (ref & WORD_MASK))) !== 0;
  }

  /** A free reference, now taken; -1 if there is none. */
  take(): number {
    if (this.#freeCount === 0) return -1;
    let index = this.#hint;
    let word = this.#free[index]!;
    if (word === 0) {
      index = this.#nextWord(index);
      word = this.#free[index]!;
      this.#hint = index;
    }
    const bit = word & -word;
    this.#put(index, word ^ bit);
    this.#freeCount -= 1;
    return index * WORD_BITS + (WORD_MASK - Math.clz32(bit));
  }

  /** The first of `count` consecutive free references, now taken; -1 if there are none. `count` is at least 1. */
  takeRange(count: number): number {
    if (count > this.#freeCount) return -1;
    const begin = this.#hint * WORD_BITS;
    let first = this.#findRun(begin, this.#end, count);
    // A run that crosses the hint lies partly before it.
    if (first < 0) first = this.#findRun(0, Math.min(begin + count - 1, this.#end), count);
    if (first < 0) return -1;
    for (let ref = first; ref < first + count;) {
      const index = ref >>> WORD_SHIFT;
      const from = ref & WORD_MASK;
      const to = Math.min(WORD_BITS, from + first + count - ref);
      this.#put(index, this.#free[index]! & ~((-1 << from) & (-1 >>> (WORD_BITS - to))));
      ref += to - from;
    }
    this.#freeCount -= count;
    this.#hint = (first + count - 1) >>> WORD_SHIFT;
    return first;
  }

  /** Takes one reference that is free. */
  takeAt(ref: number): void {
    const index = ref >>> WORD_SHIFT;
    this.#put(index, this.#free[index]! & ~(1 << (ref & WORD_MASK)));
    this.#freeCount -= 1;
  }

  /** Frees a reference that is taken. */
  release(ref: number): void {
    const index = ref >>> WORD_SHIFT;
    this.#put(index, this.#free[index]! | (1 << (ref & WORD_MASK)));
    this.#freeCount += 1;
  }

  /** Writes a word of the bitmap and what the summary says of it. */
  #put(index: number, word: number): void {
    this.#free[index] = word;
    const bit = 1 << (index & WORD_MASK);
    if (word === 0) this.#summary[index >>> WORD_SHIFT]! &= ~bit;
    else this.#summary[index >>> WORD_SHIFT]! |= bit;
  }

  /** The next word after `index`, round the end, that has a free reference. There must be one. */
  #nextWord(index: number): number {
    let at = index >>> WORD_SHIFT;
    let words = this.#summary[at]! & ~(-1 >>> (WORD_MASK - (index & WORD_MASK)));
    while (words === 0) {
      at = at + 1 === this.#summary.length ? 0 : at + 1;
      words = this.#summary[at]!;
    }
    return at * WORD_BITS + (WORD_MASK - Math.clz32(words & -words));
  }

  /** The first of `count` consecutive free references in `[begin, end)`, or -1. Goes run by run, a word at a time. */
  #findRun(begin: number, end: number, count: number): number {
    let first = begin;
    let at = begin;
    while (first + count <= end) {
      const rest = this.#free[at >>> WORD_SHIFT]! >>> (at & WORD_MASK);
      const available = WORD_BITS - (at & WORD_MASK);
      const taken = ~rest;
      const run = taken === 0 ? available : Math.min(available, WORD_MASK - Math.clz32(taken & -taken));
      at += run;
      if (at - first >= count) return first;
      if (run === available) continue;
      // `at` is taken: skip to the next free reference of the word, or to the next word.
      const after = this.#free[at >>> WORD_SHIFT]! >>> (at & WORD_MASK);
      at =
        after === 0 ? ((at >>> WORD_SHIFT) + 1) * WORD_BITS : at + (WORD_MASK - Math.clz32(after & -after));
      first = at;
    }
    return -1;
  }
}
