import {
  DMA_FAULT_ADDRESS,
  DMA_FAULT_LIMIT,
  DMA_OK,
  type DeviceMemory,
  type DmaStatus,
  type MappedArea,
  type MemoryRegion,
  type SegmentList,
} from '@virtlab/guest-memory';
import type { DirtyLog } from './dirty-log.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const MAPPED = DMA_OK;
const FAULT_ADDRESS = DMA_FAULT_ADDRESS;
const FAULT_LIMIT = DMA_FAULT_LIMIT;

const WORD = 2 ** 32;
const ADDRESS_END = 1n << 64n;
const NEAR_LOW = 0;
const NEAR_HIGH = 1;
/** At most 2^32 - 1: what the arithmetic of unsigned words can tell. Without pieces 0, so that nothing matches. */
const NEAR_SIZE = 2;
/** Its region index, and its place in the sorted arrays. */
const NEAR_INDEX = 3;
const NEAR_PLACE = 4;
const NEAR_WORDS = 5;

/** `SegmentList.handle` of a segment that the device may write: at the end of its mapping its pages are dirty. */
const WRITABLE = 1;
const READ_ONLY = -1;

/** One mapped piece of the peer's memory at its guest address. */
export interface MemoryPiece {
  readonly guestAddress: bigint;
  readonly region: MemoryRegion;
}

/**
 * What rings and devices reach through a memory table that changes while they live. Pieces may be added at any time;
 * `replace` needs that nothing is mapped. Addresses are two unsigned words on the data path, as everywhere; the piece
 * that matched last is looked at first, for descriptors in a row mostly lie in one.
 */
export class TableMemory implements DeviceMemory {
  readonly regions: MemoryRegion[] = [];
  /** By region index: guest address, as a double that is exact below 2^53. For the log. */
  #addresses: number[] = [];
  /** Sorted by address. */
  #baseLow = new Uint32Array(0);
  #baseHigh = new Uint32Array(0);
  #sizes = new Float64Array(0);
  #indices = new Uint32Array(0);
  /** The piece that matched last, in one array, because each array touched costs. */
  readonly #near: Uint32Array = new Uint32Array(NEAR_WORDS);
  #mappedSegmentCount = 0;
  #mappedAreaCount = 0;
  /** Where writes are marked; undefined: nowhere. */
  log: DirtyLog | undefined = undefined;

  /** Segments and ring areas that are mapped. */
  get mappedCount(): number {
    return this.#mappedSegmentCount + this.#mappedAreaCount;
  }

  /** Pieces do not overlap: the table has seen to it. */
  add(pieces: readonly MemoryPiece[]): void {
    for (const { guestAddress, region } of pieces) {
      this.regions.push(region);
      this.#addresses.push(Number(guestAddress));
    }
    const known = Array.from(this.#indices, (index, at) => ({
      base: (BigInt(this.#baseHigh[at]!) << 32n) | BigInt(this.#baseLow[at]!),
      index,
    }));
    const from = this.regions.length - pieces.length;
    const added = pieces.map(({ guestAddress }, at) => ({ base: guestAddress, index: from + at }));
    const sorted = [...known, ...added].toSorted((a, b) => (a.base < b.base ? -1 : 1));
    this.#baseLow = Uint32Array.from(sorted, ({ base }) => Number(BigInt.asUintN(32, base)));
    this.#baseHigh = Uint32Array.from(sorted, ({ base }) => Number(base >> 32n));
    this.#sizes = Float64Array.from(sorted, ({ index }) => this.regions[index]!.size);
    this.#indices = Uint32Array.from(sorted, ({ index }) => index);
    this.#remember(0);
  }

  /** Throws `TypeError` while anything is mapped: region indices would come to mean something else. */
  replace(pieces: readonly MemoryPiece[]): void {
    if (this.mappedCount > 0) throw new TypeError(`${this.mappedCount} mappings of a table that is replaced`);
    this.regions.length = 0;
    this.#addresses = [];
    this.#indices = new Uint32Array(0);
    this.add(pieces);
  }

  map(low: number, high: number, size: number, writable: boolean, into: SegmentList): DmaStatus {
    const handle = writable ? WRITABLE : READ_ONLY;
    const near = this.#near;
    const baseLow = near[NEAR_LOW]!;
    if (high === near[NEAR_HIGH] && low >= baseLow && size > 0) {
      const offset = (low - baseLow) >>> 0;
      const nearSize = near[NEAR_SIZE]!;
      if (offset < nearSize && size <= (nearSize - offset) >>> 0) {
        if (!into.push(near[NEAR_INDEX]!, offset, size, handle)) return FAULT_LIMIT;
        this.#mappedSegmentCount += 1;
        return MAPPED;
      }
    }
    return this.#mapPieces(low, high, size, handle, into);
  }

  #mapPieces(low: number, high: number, size: number, handle: number, into: SegmentList): DmaStatus {
    const from = into.count;
    let rest = size;
    let atLow = low;
    let atHigh = high;
    while (rest > 0) {
      // Past 2^64 `atHigh` has 33 bits, which no base has and no difference forgives.
      const at = this.#find(atLow, atHigh);
      if (at < 0) {
        into.count = from;
        return FAULT_ADDRESS;
      }
      const offset = (atHigh - this.#baseHigh[at]!) * WORD + (atLow - this.#baseLow[at]!);
      const available = this.#sizes[at]! - offset;
      const taken = rest < available ? rest : available;
      if (!into.push(this.#indices[at]!, offset, taken, handle)) {
        into.count = from;
        return FAULT_LIMIT;
      }
      rest -= taken;
      if (rest === 0) break;
      atLow += taken;
      if (atLow >= WORD) {
        atLow -= WORD;
        atHigh += 1;
      }
    }
    this.#mappedSegmentCount += into.count - from;
    return MAPPED;
  }

  unmap(list: SegmentList, from: number, to: number): void {
    if (this.log !== undefined) this.#logSegments(this.log, list, from, to);
    this.#mappedSegmentCount -= to - from;
  }

  mapArea(address: bigint, size: number, alignment: number, _writable: boolean): MappedArea | DmaStatus {
    if (address < 0n || address >= ADDRESS_END || size <= 0) return FAULT_ADDRESS;
    const low = Number(BigInt.asUintN(32, address));
    const high = Number(address >> 32n);
    const at = this.#find(low, high);
    if (at < 0) return FAULT_ADDRESS;
    const offset = (high - this.#baseHigh[at]!) * WORD + (low - this.#baseLow[at]!);
    if (offset + size > this.#sizes[at]! || low % alignment !== 0 || offset % alignment !== 0)
      return FAULT_ADDRESS;
    this.#mappedAreaCount += 1;
    return { region: this.regions[this.#indices[at]!]!, offset, size };
  }

  unmapArea(area: MappedArea): void {
    if (this.#mappedAreaCount === 0) throw new RangeError(`The area at offset ${area.offset} is not mapped`);
    this.#mappedAreaCount -= 1;
  }

  #logSegments(log: DirtyLog, list: SegmentList, from: number, to: number): void {
    for (let at = from; at < to; at += 1) {
      if (list.handle[at] !== WRITABLE) continue;
      log.mark(this.#addresses[list.region[at]!]! + list.offset[at]!, list.size[at]!);
    }
  }

  /** Place in the sorted arrays of the piece that holds an address, or -1. */
  #find(low: number, high: number): number {
    const last = this.#near[NEAR_PLACE]!;
    if (last < this.#sizes.length) {
      const delta = (high - this.#baseHigh[last]!) * WORD + (low - this.#baseLow[last]!);
      if (delta >= 0 && delta < this.#sizes[last]!) return last;
    }
    let from = 0;
    let to = this.#sizes.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const above = (high - this.#baseHigh[middle]!) * WORD + (low - this.#baseLow[middle]!);
      if (above < 0) to = middle;
      else if (above < this.#sizes[middle]!) {
        this.#remember(middle);
        return middle;
      } else from = middle + 1;
    }
    return -1;
  }

  #remember(place: number): void {
    const near = this.#near;
    near[NEAR_PLACE] = place;
    near[NEAR_LOW] = this.#baseLow[place] ?? 0;
    near[NEAR_HIGH] = this.#baseHigh[place] ?? 0;
    near[NEAR_SIZE] = Math.min(this.#sizes[place] ?? 0, WORD - 1);
    near[NEAR_INDEX] = this.#indices[place] ?? 0;
  }
}
