import {
  type DeviceMemory,
  DMA_OK,
  type DmaStatus,
  type MemoryRegion,
  SegmentList,
} from '@virtlab/guest-memory';
import type { DescriptorChain, TakenDescriptor } from './contract.ts';

/** Copies longer than this go through a short-lived view and the engine's memmove; shorter ones byte by byte. */
const VIEW_COPY_SIZE_MIN = 96;

/** Bytes in one chain at most: a used entry could not name more (§2.7.5.2 allows one byte more). */
export const CHAIN_SIZE_MAX = 0xffff_ffff;
/** `RingChain.append` answers beside the `DMA_*` ones. */
export const CHAIN_TOO_LARGE = -1;
export const CHAIN_OUT_OF_ORDER = -2;
export type ChainFault = typeof CHAIN_TOO_LARGE | typeof CHAIN_OUT_OF_ORDER;

// V8 folds a module's own constants into optimized code, but loads imported and exported ones from their cells.
const MAPPED = DMA_OK;
const SIZE_MAX = CHAIN_SIZE_MAX;
const TOO_LARGE = CHAIN_TOO_LARGE;
const OUT_OF_ORDER = CHAIN_OUT_OF_ORDER;

/** Words of a kept descriptor: address, size, flags. */
const KEPT_WORDS = 4;
const NOTHING_KEPT = new Uint32Array(0);

/**
 * A reusable chain of a device queue. Everything but the data behind `segments` is private memory of the device:
 * what the driver does to its descriptors after `pop` changes nothing here.
 */
export class RingChain implements DescriptorChain {
  head = 0;
  readonly segments: SegmentList;
  readableCount = 0;
  readableSize = 0;
  writableSize = 0;
  descriptorCount = 0;
  /** Popped and not pushed. */
  inFlight = false;
  /** Pushed, but held back until the chains before it are (IN_ORDER); `writtenSize` and `isFull` are set then. */
  isHeld = false;
  writtenSize = 0;
  /** Whether all of the writable part was written. */
  isFull = false;
  /** Where the chain was popped: split, the available index; packed, the slot of its first descriptor. */
  position = 0;
  /** Ring slots that the chain takes; 1 in a split ring, whose used ring has an entry for each chain. */
  slotCount = 1;
  /** Counts what the queue popped, modulo 2^32, as a signed word: two chains in flight are in the order of their difference. */
  sequence = 0;
  readonly pool: object;
  readonly #memory: DeviceMemory;
  #hasWritable = false;
  /** Packed: what was read from the ring, where used descriptors of others may stand by now. */
  #kept: Uint32Array = NOTHING_KEPT;

  /** `pool` is whose chain this is. */
  constructor(pool: object, memory: DeviceMemory, segmentCountMax: number) {
    this.pool = pool;
    this.#memory = memory;
    this.segments = new SegmentList(Math.min(8, segmentCountMax), segmentCountMax);
  }

  /** Maps the next buffer of the chain: `DMA_OK`, another `DMA_*` or `CHAIN_*`, with the chain then to be unmapped. */
  append(low: number, high: number, size: number, writable: boolean): DmaStatus | ChainFault {
    if (this.readableSize + this.writableSize + size > SIZE_MAX) return TOO_LARGE;
    const segments = this.segments;
    if (writable) {
      this.#hasWritable = true;
      this.writableSize += size;
    } else {
      if (this.#hasWritable) return OUT_OF_ORDER;
      this.readableSize += size;
    }
    const status = size === 0 ? MAPPED : this.#memory.map(low, high, size, writable, segments);
    if (!writable) this.readableCount = segments.count;
    return status;
  }

  /** Packed: remembers what stood in the ring for descriptor `index` of the chain; `flags` without AVAIL and USED. */
  keep(index: number, low: number, high: number, size: number, flags: number): void {
    const at = index * KEPT_WORDS;
    if (at >= this.#kept.length) this.#growKept();
    const kept = this.#kept;
    kept[at] = low;
    kept[at + 1] = high;
    kept[at + 2] = size;
    kept[at + 3] = flags;
  }

  /** What was kept, for each of its slots. */
  keptDescriptors(): TakenDescriptor[] {
    const kept = this.#kept;
    return Array.from({ length: this.slotCount }, (_, index) => {
      const at = index * KEPT_WORDS;
      return {
        addressLow: kept[at]!,
        addressHigh: kept[at + 1]!,
        size: kept[at + 2]!,
        flags: kept[at + 3]!,
      };
    });
  }

  get regions(): readonly MemoryRegion[] {
    return this.#memory.regions;
  }

  /** Ends the mappings; accessors answer "beyond the part" until the chain is filled again. */
  unmap(): void {
    const segments = this.segments;
    this.#memory.unmap(segments, 0, segments.count);
    segments.clear();
    this.readableCount = 0;
    this.readableSize = 0;
    this.writableSize = 0;
    this.#hasWritable = false;
  }

  read(at: number, out: Uint8Array): boolean {
    const size = out.length;
    if (!(at >= 0 && at + size <= this.readableSize)) return false;
    const segments = this.segments;
    let skip = at;
    let done = 0;
    for (let i = 0; done < size; i++) {
      const segmentSize = segments.size[i]!;
      if (skip >= segmentSize) {
        skip -= segmentSize;
        continue;
      }
      const part = Math.min(segmentSize - skip, size - done);
      const from = segments.offset[i]! + skip;
      copyBytes(this.#memory.regions[segments.region[i]!]!.u8, from, out, done, part);
      done += part;
      skip = 0;
    }
    return true;
  }

  write(at: number, bytes: Uint8Array): boolean {
    const size = bytes.length;
    if (!(at >= 0 && at + size <= this.writableSize)) return false;
    const segments = this.segments;
    let skip = at;
    let done = 0;
    for (let i = this.readableCount; done < size; i++) {
      const segmentSize = segments.size[i]!;
      if (skip >= segmentSize) {
        skip -= segmentSize;
        continue;
      }
      const part = Math.min(segmentSize - skip, size - done);
      const to = segments.offset[i]! + skip;
      copyBytes(bytes, done, this.#memory.regions[segments.region[i]!]!.u8, to, part);
      done += part;
      skip = 0;
    }
    return true;
  }

  readU8(at: number): number {
    return this.#readWord(at, 1);
  }

  readU16(at: number): number {
    return this.#readWord(at, 2);
  }

  /** Headers mostly lie aligned in the first segment. */
  readU32(at: number): number {
    const segments = this.segments;
    const from = segments.offset[0]! + at;
    const isPlain = at >= 0 && at + 4 <= this.readableSize && at + 4 <= segments.size[0]! && (from & 3) === 0;
    return isPlain ? this.#memory.regions[segments.region[0]!]!.u32[from >>> 2]! : this.#readWord(at, 4);
  }

  /** What ends a chain, as a status does, is the last byte of the last segment. */
  writeU8(at: number, value: number): boolean {
    if (at < 0 || at !== this.writableSize - 1) return this.#writeWord(at, value, 1);
    const segments = this.segments;
    const last = segments.count - 1;
    this.#memory.regions[segments.region[last]!]!.u8[segments.offset[last]! + segments.size[last]! - 1] =
      value;
    return true;
  }

  writeU16(at: number, value: number): boolean {
    return this.#writeWord(at, value, 2);
  }

  writeU32(at: number, value: number): boolean {
    return this.#writeWord(at, value, 4);
  }

  #growKept(): void {
    const kept = new Uint32Array(Math.max(4 * KEPT_WORDS, this.#kept.length * 2));
    kept.set(this.#kept);
    this.#kept = kept;
  }

  /** Byte by byte, because a word may be unaligned and may straddle segments. */
  #readWord(at: number, size: number): number {
    if (!(at >= 0 && at + size <= this.readableSize)) return Number.NaN;
    const segments = this.segments;
    let i = 0;
    let skip = at;
    while (skip >= segments.size[i]!) skip -= segments.size[i++]!;
    let u8 = this.#memory.regions[segments.region[i]!]!.u8;
    let value = u8[segments.offset[i]! + skip]!;
    for (let shift = 8; shift < size * 8; shift += 8) {
      if (++skip === segments.size[i]!) {
        skip = 0;
        u8 = this.#memory.regions[segments.region[++i]!]!.u8;
      }
      value |= u8[segments.offset[i]! + skip]! << shift;
    }
    return value >>> 0;
  }

  #writeWord(at: number, value: number, size: number): boolean {
    if (!(at >= 0 && at + size <= this.writableSize)) return false;
    const segments = this.segments;
    let i = this.readableCount;
    let skip = at;
    while (skip >= segments.size[i]!) skip -= segments.size[i++]!;
    let u8 = this.#memory.regions[segments.region[i]!]!.u8;
    u8[segments.offset[i]! + skip] = value;
    for (let shift = 8; shift < size * 8; shift += 8) {
      if (++skip === segments.size[i]!) {
        skip = 0;
        u8 = this.#memory.regions[segments.region[++i]!]!.u8;
      }
      u8[segments.offset[i]! + skip] = value >>> shift;
    }
    return true;
  }
}

function copyBytes(source: Uint8Array, from: number, target: Uint8Array, to: number, size: number): void {
  if (size >= VIEW_COPY_SIZE_MIN) {
    target.set(source.subarray(from, from + size), to);
    return;
  }
  for (let i = 0; i < size; i++) target[to + i] = source[from + i]!;
}
