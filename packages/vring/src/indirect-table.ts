import { VRING_DESC } from '@virtlab/abi/virtio-ring';
import { type DeviceMemory, DMA_OK, type DmaStatus, SegmentList } from '@virtlab/guest-memory';

/**
 * The private copy of an indirect table, as large as a legal one may be (§2.7.5.3, §2.8.7). The table is read as a whole,
 * each word once, and its mapping ends at once.
 */
export class IndirectTable {
  readonly words: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #memory: DeviceMemory;
  readonly #segments: SegmentList;

  constructor(memory: DeviceMemory, entryCountMax: number, segmentCountMax: number) {
    this.#memory = memory;
    this.words = new Uint32Array((entryCountMax * VRING_DESC.size) / 4);
    this.#bytes = new Uint8Array(this.words.buffer);
    this.#segments = new SegmentList(Math.min(8, segmentCountMax), segmentCountMax);
  }

  /** Copies `size` bytes, which fit, from a device address; they may lie anywhere, at any alignment, scattered. */
  read(low: number, high: number, size: number): DmaStatus {
    const segments = this.#segments;
    const status = this.#memory.map(low, high, size, false, segments);
    if (status !== DMA_OK) return status;
    let to = 0;
    for (let i = 0; i < segments.count; i++) to = this.#copy(i, to);
    this.#memory.unmap(segments, 0, segments.count);
    segments.clear();
    return status;
  }

  #copy(segment: number, to: number): number {
    const { region, offset, size } = this.#segments;
    const { u8, u32 } = this.#memory.regions[region[segment]!]!;
    const from = offset[segment]!;
    const bytes = size[segment]!;
    if (((from | bytes | to) & 3) === 0) {
      const words = this.words;
      for (let at = 0; at < bytes; at += 4) words[(to + at) >>> 2] = u32[(from + at) >>> 2]!;
    } else {
      for (let at = 0; at < bytes; at++) this.#bytes[to + at] = u8[from + at]!;
    }
    return to + bytes;
  }
}
