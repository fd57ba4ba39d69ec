import { XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';

/** Where a pool gets its pages from: `PageAllocator` of `@virtlab/guest-memory` behind `pageSource`, or anything like it. */
export interface PageSource {
  /** Byte offset of a page, or -1 when there is none. */
  allocate(): number;
  free(offset: number): void;
}

export interface PagePoolOptions {
  readonly source: PageSource;
  /** Pages that the pool owns at most, in use and empty. */
  readonly pageCountMax: number;
  /** Empty pages that are never given back by `trim`. Default 0. */
  readonly emptyCountMin?: number;
  /** Pages that one `trim` gives back at most. Default 32. */
  readonly trimCountMax?: number;
}

export interface PagePoolStatistics {
  /** Pages owned, in use, and kept empty for reuse. */
  readonly pageCount: number;
  readonly inUseCount: number;
  readonly emptyCount: number;
  /** Most in use ever; fewest empty since the last `trim`, which were of no use since. */
  readonly inUseCountMax: number;
  readonly emptyCountLow: number;
  /** Taken from the empty ones; from the source; refused, because of the bound or because the source had none. */
  readonly hitTotal: number;
  readonly missTotal: number;
  readonly refusedTotal: number;
  /** Given back to the source. */
  readonly freedTotal: number;
}

const TRIM_COUNT_MAX = 32;
const PAGE_SIZE = XEN_PAGE_SIZE;
const PAGE_SHIFT = XEN_PAGE_SHIFT;

/**
 * Own pages for a backend to copy into or to lend: bounded as netback's (`MAX_PENDING_REQS` pages a queue), kept when empty
 * and given back later as Linux' `gnttab_page_cache`. The page that was put last is taken first: it is warm.
 */
export class PagePool {
  readonly pageCountMax: number;
  readonly #source: PageSource;
  readonly #emptyCountMin: number;
  readonly #trimCountMax: number;
  /** Page numbers of the empty pages, a stack. */
  readonly #empty: Uint32Array;
  /** By page number: 1 while it is in use. Grows with the highest page that the source gave. */
  #isInUse = new Uint8Array(0);
  #emptyCount = 0;
  #emptyCountLow = 0;
  #inUseCount = 0;
  #inUseCountMax = 0;
  #hitTotal = 0;
  #missTotal = 0;
  #refusedTotal = 0;
  #freedTotal = 0;

  constructor({ source, pageCountMax, emptyCountMin = 0, trimCountMax = TRIM_COUNT_MAX }: PagePoolOptions) {
    if (!(Number.isInteger(pageCountMax) && pageCountMax >= 1)) {
      throw new RangeError(`A pool of ${pageCountMax} pages is none`);
    }
    if (!(emptyCountMin >= 0 && emptyCountMin <= pageCountMax && trimCountMax >= 1)) {
      throw new RangeError(
        `${emptyCountMin} of ${pageCountMax} pages cannot be kept, ${trimCountMax} a trim`,
      );
    }
    this.pageCountMax = pageCountMax;
    this.#source = source;
    this.#emptyCountMin = emptyCountMin;
    this.#trimCountMax = trimCountMax;
    this.#empty = new Uint32Array(pageCountMax);
  }

  /** Byte offset of a page, or -1 when as many are in use as may be, or the source has none. What it holds is old. */
  take(): number {
    if (this.#emptyCount > 0) {
      this.#emptyCount -= 1;
      if (this.#emptyCount < this.#emptyCountLow) this.#emptyCountLow = this.#emptyCount;
      this.#hitTotal += 1;
      return this.#use(this.#empty[this.#emptyCount]!);
    }
    const offset = this.#inUseCount < this.pageCountMax ? this.#source.allocate() : -1;
    if (offset < 0) {
      this.#refusedTotal += 1;
      return -1;
    }
    this.#missTotal += 1;
    const page = offset / PAGE_SIZE;
    if (page >= this.#isInUse.length) this.#grow(page);
    return this.#use(page);
  }

  /** Takes a page back. Throws `RangeError` for one that is not in use. */
  put(offset: number): void {
    const page = offset / PAGE_SIZE;
    if (this.#isInUse[page] !== 1) throw new RangeError(`The page at ${offset} is not in use`);
    this.#isInUse[page] = 0;
    this.#inUseCount -= 1;
    this.#empty[this.#emptyCount] = page;
    this.#emptyCount += 1;
  }

  /**
   * Gives back pages that nobody needed since the last `trim`, a bounded number of them: for a timer, or for when there is
   * nothing to do. Answers how many.
   */
  trim(): number {
    const unused = Math.min(this.#emptyCountLow, this.#trimCountMax, this.#emptyCount - this.#emptyCountMin);
    const freed = unused > 0 ? this.#free(unused) : 0;
    this.#emptyCountLow = this.#emptyCount;
    return freed;
  }

  /** Gives back all empty pages but so many, at once (`gnttab_page_cache_shrink`). Answers how many. */
  shrink(emptyCount: number): number {
    return this.#emptyCount > emptyCount ? this.#free(this.#emptyCount - emptyCount) : 0;
  }

  get statistics(): PagePoolStatistics {
    return {
      pageCount: this.#inUseCount + this.#emptyCount,
      inUseCount: this.#inUseCount,
      emptyCount: this.#emptyCount,
      inUseCountMax: this.#inUseCountMax,
      emptyCountLow: this.#emptyCountLow,
      hitTotal: this.#hitTotal,
      missTotal: this.#missTotal,
      refusedTotal: this.#refusedTotal,
      freedTotal: this.#freedTotal,
    };
  }

  #use(page: number): number {
    this.#isInUse[page] = 1;
    this.#inUseCount += 1;
    if (this.#inUseCount > this.#inUseCountMax) this.#inUseCountMax = this.#inUseCount;
    return page * (1 << PAGE_SHIFT);
  }

  /** The oldest of the empty pages, which lie at the bottom. */
  #free(count: number): number {
    for (let index = 0; index < count; index++) this.#source.free(this.#empty[index]! * PAGE_SIZE);
    this.#empty.copyWithin(0, count, this.#emptyCount);
    this.#emptyCount -= count;
    this.#freedTotal += count;
    if (this.#emptyCount < this.#emptyCountLow) this.#emptyCountLow = this.#emptyCount;
    return count;
  }

  #grow(page: number): void {
    const grown = new Uint8Array(Math.max(page + 1, this.#isInUse.length * 2, 64));
    grown.set(this.#isInUse);
    this.#isInUse = grown;
  }
}

/** What of `PageAllocator` a pool needs. */
export interface SinglePages {
  readonly usedPages: number;
  readonly pageCount: number;
  allocate(size: number): number;
  free(offset: number, size: number): void;
}

/** Single pages of an allocator. */
export function pageSource(pages: SinglePages): PageSource {
  return {
    allocate: () => (pages.usedPages < pages.pageCount ? pages.allocate(PAGE_SIZE) : -1),
    free: (offset) => pages.free(offset, PAGE_SIZE),
  };
}
