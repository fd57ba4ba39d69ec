import { DmaError } from './dma.ts';

export const PAGE_SIZE = 4096;

const FREE = 0;
const FIRST = 1;
const FOLLOWING = 2;

/**
 * Contiguous runs of pages in a range of offsets, first fit. Holds no bytes itself. For the control plane:
 * finding a run walks the pages.
 */
export class PageAllocator {
  /** Offset of the first page. */
  readonly offset: number;
  readonly pageCount: number;
  readonly pageSize: number;
  readonly #state: Uint8Array;
  /** No page below this one is free. */
  #lowest = 0;
  #usedPages = 0;

  /** `offset` and `pageSize` in bytes; a rest of `size` that is no whole page is left out. */
  constructor(offset: number, size: number, pageSize: number = PAGE_SIZE) {
    if (!Number.isInteger(pageSize) || pageSize <= 0 || offset % pageSize !== 0 || offset < 0) {
      throw new RangeError(`Offset ${offset} is not a multiple of the page size ${pageSize}`);
    }
    this.offset = offset;
    this.pageSize = pageSize;
    this.pageCount = Math.floor(size / pageSize);
    this.#state = new Uint8Array(this.pageCount);
  }

  get usedPages(): number {
    return this.#usedPages;
  }

  /**
   * The offset of `size` bytes, rounded up to whole pages. Throws `DmaError` `ENOMEM` when no run is long
   * enough.
   */
  allocate(size: number): number {
    const count = this.#pages(size);
    let run = 0;
    for (let page = this.#lowest; page < this.pageCount; page++) {
      run = this.#state[page] === FREE ? run + 1 : 0;
      if (run === count) return this.#take(page - count + 1, count);
    }
    throw new DmaError(
      'ENOMEM',
      `no ${count} free pages in a row (${this.pageCount - this.#usedPages} free)`,
    );
  }

  /**
   * Gives back a whole allocation. Throws `RangeError` when `offset` and `size` are not those of a live one.
   */
  free(offset: number, size: number): void {
    const count = this.#pages(size);
    const first = (offset - this.offset) / this.pageSize;
    const state = this.#state;
    if (!Number.isInteger(first) || state[first] !== FIRST) {
      throw new RangeError(`No allocation starts at offset ${offset}: freed twice, or never allocated`);
    }
    let end = first + 1;
    while (end < this.pageCount && state[end] === FOLLOWING) end++;
    if (end - first !== count) {
      throw new RangeError(`The allocation at offset ${offset} has ${end - first} pages, not ${count}`);
    }
    state.fill(FREE, first, end);
    this.#usedPages -= count;
    if (first < this.#lowest) this.#lowest = first;
  }

  #pages(size: number): number {
    if (!Number.isSafeInteger(size) || size <= 0)
      throw new RangeError(`Size ${size} is not a positive integer`);
    return Math.ceil(size / this.pageSize);
  }

  #take(first: number, count: number): number {
    this.#state.fill(FOLLOWING, first + 1, first + count);
    this.#state[first] = FIRST;
    this.#usedPages += count;
    if (first === this.#lowest) this.#lowest = first + count;
    return this.offset + first * this.pageSize;
  }
}
