import { VRING_DESC } from '@virtlab/abi/virtio-ring';
import { type DeviceMemory, DMA_OK, type DmaStatus, SegmentList } from '@virtlab/guest-memory';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const MAPPED = DMA_OK;

/**
 * An indirect table that is being read (§2.7.5.3, §2.8.7): where it lies if that is one aligned piece, as nearly always, else a
 * private copy. Whoever reads it loads each word of an entry once, into locals, as it does in the ring itself.
 */
export class IndirectTable {
  /** Entry `i` begins at word `base + i * 4`; until `close`. */
  words: Uint32Array;
  base = 0;
  readonly #copy: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #memory: DeviceMemory;
  readonly #segments: SegmentList;

  /** A table has at most `entryCountMax` entries. */
  constructor(memory: DeviceMemory, entryCountMax: number, segmentCountMax: number) {
    this.#memory = memory;
    this.#copy = new Uint32Array((entryCountMax * VRING_DESC.size) / 4);
    this.#bytes = new Uint8Array(this.#copy.buffer);
    this.#segments = new SegmentList(Math.min(8, segmentCountMax), segmentCountMax);
    this.words = this.#copy;
  }

  /** Maps `size` bytes, which fit, at a device address; they may lie anywhere, at any alignment, scattered. */
  open(low: number, high: number, size: number): DmaStatus {
    const segments = this.#segments;
    const status = this.#memory.map(low, high, size, false, segments);
    if (status !== MAPPED) return status;
    const from = segments.offset[0]!;
    if (segments.count === 1 && (from & 3) === 0) {
      this.words = this.#memory.regions[segments.region[0]!]!.u32;
      this.base = from >>> 2;
    } else this.#copyAll();
    return status;
  }

  /** Ends the mapping. */
  close(): void {
    const segments = this.#segments;
    this.#memory.unmap(segments, 0, segments.count);
    segments.clear();
  }

  #copyAll(): void {
    const { region, offset, size, count } = this.#segments;
    let to = 0;
    for (let segment = 0; segment < count; segment++) {
      const { u8 } = this.#memory.regions[region[segment]!]!;
      const from = offset[segment]!;
      const bytes = size[segment]!;
      for (let at = 0; at < bytes; at++) this.#bytes[to + at] = u8[from + at]!;
      to += bytes;
    }
    this.words = this.#copy;
    this.base = 0;
  }
}
