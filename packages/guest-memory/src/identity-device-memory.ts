import {
  DMA_FAULT_ADDRESS,
  DMA_FAULT_LIMIT,
  DMA_OK,
  type DeviceMemory,
  type DmaStatus,
  type MappedArea,
} from './dma.ts';
import type { MemoryRegion } from './memory-region.ts';
import type { SegmentList } from './segment-list.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const MAPPED = DMA_OK;
const FAULT_ADDRESS = DMA_FAULT_ADDRESS;
const FAULT_LIMIT = DMA_FAULT_LIMIT;

const WORD = 2 ** 32;
const ADDRESS_END = 1n << 64n;
const NO_HANDLE = -1;

const NEAR_WORDS = 3;
const NEAR_LOW = 0;
const NEAR_HIGH = 1;
/** At most 2^32 - 1: what the arithmetic of unsigned words can tell. Without ranges 0, so that nothing matches. */
const NEAR_SIZE = 2;

/** A region at its guest-physical address. */
export interface GuestRange {
  readonly guestAddress: bigint | number;
  readonly region: MemoryRegion;
}

/**
 * What a device reaches when device addresses are guest-physical: all of a list of regions, at any time.
 * Segments may straddle regions that are adjacent. Addresses stay two words; a difference of addresses is a
 * double, which is exact wherever it matters (below 2^53) and too large to match otherwise.
 */
export class IdentityDeviceMemory implements DeviceMemory {
  readonly regions: readonly MemoryRegion[];
  readonly #baseLow: Uint32Array;
  readonly #baseHigh: Uint32Array;
  readonly #size: Float64Array;
  /** Base and size of the range that matched last, as `map` wants them: in one array, because each array touched costs. */
  readonly #near: Uint32Array = new Uint32Array(NEAR_WORDS);
  /** The range that matched last: descriptors in a row mostly lie in one. */
  #last = 0;
  #mappedSegmentCount = 0;
  #mappedAreaCount = 0;

  /** Ranges in any order. Throws `RangeError` when two overlap or one ends beyond 2^64. */
  constructor(ranges: readonly GuestRange[]) {
    const sorted = ranges
      .map(({ guestAddress, region }) => ({ base: BigInt(guestAddress), region }))
      .toSorted((a, b) => (a.base < b.base ? -1 : Number(a.base > b.base)));
    let end = 0n;
    for (const { base, region } of sorted) {
      if (base < end) throw new RangeError(`The range at ${base} overlaps the one before it, or is negative`);
      end = base + BigInt(region.size);
      if (end > ADDRESS_END)
        throw new RangeError(`The range at ${base} of ${region.size} bytes ends beyond 2^64`);
    }
    this.regions = sorted.map(({ region }) => region);
    this.#baseLow = Uint32Array.from(sorted, ({ base }) => Number(BigInt.asUintN(32, base)));
    this.#baseHigh = Uint32Array.from(sorted, ({ base }) => Number(base >> 32n));
    this.#size = Float64Array.from(sorted, ({ region }) => region.size);
    if (sorted.length > 0) this.#remember(0);
  }

  /** Segments mapped and not unmapped. */
  get mappedSegmentCount(): number {
    return this.#mappedSegmentCount;
  }

  /** Areas mapped and not unmapped. */
  get mappedAreaCount(): number {
    return this.#mappedAreaCount;
  }

  /**
   * Nearly every buffer lies wholly in the range of the one before it. That case is apart because it needs no
   * floating-point number: all of it is comparisons and differences of unsigned words.
   */
  map(
    addressLow: number,
    addressHigh: number,
    size: number,
    _writable: boolean,
    into: SegmentList,
  ): DmaStatus {
    const near = this.#near;
    const baseLow = near[NEAR_LOW]!;
    if (addressHigh === near[NEAR_HIGH] && addressLow >= baseLow && size > 0) {
      const offset = (addressLow - baseLow) >>> 0;
      const nearSize = near[NEAR_SIZE]!;
      if (offset < nearSize && size <= (nearSize - offset) >>> 0) {
        if (!into.push(this.#last, offset, size, NO_HANDLE)) return FAULT_LIMIT;
        this.#mappedSegmentCount++;
        return MAPPED;
      }
    }
    return this.#mapPieces(addressLow, addressHigh, size, into);
  }

  #mapPieces(addressLow: number, addressHigh: number, size: number, into: SegmentList): DmaStatus {
    const from = into.count;
    let low = addressLow;
    let high = addressHigh;
    let rest = size;
    while (rest > 0) {
      // Past 2^64 `high` has 33 bits, which no base has and no difference forgives.
      const index = this.#find(low, high);
      if (index < 0) {
        into.count = from;
        return FAULT_ADDRESS;
      }
      const offset = (high - this.#baseHigh[index]!) * WORD + (low - this.#baseLow[index]!);
      const available = this.#size[index]! - offset;
      const taken = rest < available ? rest : available;
      if (!into.push(index, offset, taken, NO_HANDLE)) {
        into.count = from;
        return FAULT_LIMIT;
      }
      rest -= taken;
      low += taken;
      if (low >= WORD) {
        low -= WORD;
        high += 1;
      }
    }
    this.#mappedSegmentCount += into.count - from;
    return MAPPED;
  }

  /** Throws `RangeError` when more is unmapped than was mapped: a bug of ours. */
  unmap(_list: SegmentList, from: number, to: number): void {
    const left = this.#mappedSegmentCount - (to - from);
    if (left < 0) refuseUnmap(to - from, this.#mappedSegmentCount);
    this.#mappedSegmentCount = left;
  }

  mapArea(address: bigint, size: number, alignment: number, _writable: boolean): MappedArea | DmaStatus {
    if (address < 0n || address >= ADDRESS_END || size <= 0) return FAULT_ADDRESS;
    const low = Number(BigInt.asUintN(32, address));
    const high = Number(address >> 32n);
    const index = this.#find(low, high);
    if (index < 0) return FAULT_ADDRESS;
    const offset = (high - this.#baseHigh[index]!) * WORD + (low - this.#baseLow[index]!);
    if (offset + size > this.#size[index]! || low % alignment !== 0 || offset % alignment !== 0) {
      return FAULT_ADDRESS;
    }
    this.#mappedAreaCount++;
    return { region: this.regions[index]!, offset, size };
  }

  unmapArea(area: MappedArea): void {
    if (this.#mappedAreaCount === 0) throw new RangeError(`The area at offset ${area.offset} is not mapped`);
    this.#mappedAreaCount--;
  }

  /** The index of the range that holds an address, or -1. */
  #find(low: number, high: number): number {
    if (this.regions.length === 0) return -1;
    const last = this.#last;
    const delta = (high - this.#baseHigh[last]!) * WORD + (low - this.#baseLow[last]!);
    if (delta >= 0 && delta < this.#size[last]!) return last;
    let from = 0;
    let to = this.regions.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const above = (high - this.#baseHigh[middle]!) * WORD + (low - this.#baseLow[middle]!);
      if (above < 0) to = middle;
      else if (above < this.#size[middle]!) {
        this.#remember(middle);
        return middle;
      } else from = middle + 1;
    }
    return -1;
  }

  #remember(index: number): void {
    this.#last = index;
    this.#near[NEAR_LOW] = this.#baseLow[index]!;
    this.#near[NEAR_HIGH] = this.#baseHigh[index]!;
    this.#near[NEAR_SIZE] = Math.min(this.#size[index]!, WORD - 1);
  }
}

/** Apart, because a function with a text in it is too long for the engine to inline. */
function refuseUnmap(count: number, mappedCount: number): never {
  throw new RangeError(`${count} segments unmapped, ${mappedCount} are mapped`);
}
