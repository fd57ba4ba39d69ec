import {
  VRING_AVAIL,
  VRING_AVAIL_RING_OFFSET,
  VRING_DESC,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_USED,
  VRING_USED_ELEM,
  VRING_USED_RING_OFFSET,
  vringUsedEventOffset,
} from '@virtlab/abi/virtio-ring';
import { type MemoryRegion, loadIndexAcquire, storeIndexRelease } from '@virtlab/guest-memory';
import { BUFFER_SIZE, type RingLayout } from './ring-layout.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const DESC_WORDS = VRING_DESC.size / 4;
const LOW = VRING_DESC.offset.addr / 4;
const LEN = VRING_DESC.offset.len / 4;
/** `flags` is the low half of this word and `next` the high one. */
const LINK = VRING_DESC.offset.flags / 4;
const F_NEXT = VRING_DESC_F_NEXT;
const F_WRITE = VRING_DESC_F_WRITE;
const F_INDIRECT = VRING_DESC_F_INDIRECT;
const USED_WORDS = VRING_USED_ELEM.size / 4;
const USED_ID = VRING_USED_ELEM.offset.id / 4;

/** The least that a driver has to do, for one device half or another. */
export interface RequestDriver {
  /** Makes so many requests available and publishes them. */
  offer(count: number): void;
  /** Takes back what was used, and asks to be called for the next; how many. */
  collect(): number;
  /** Names of what came back, added up, so that the used ring is really read. */
  readonly headSum: number;
}

/**
 * The least that a driver can do: plain stores of descriptors and ring entries, one release store of the index for a batch. Keeps
 * no books and checks nothing, so that what is measured is the device half; the same object stands before every device half.
 */
export class RawDriver implements RequestDriver {
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #layout: RingLayout;
  readonly #bufferCount: number;
  readonly #isIndirect: boolean;
  #descriptor = 0;
  #availIdx = 0;
  #usedIdx = 0;
  headSum = 0;

  constructor(
    { u16, u32 }: Pick<MemoryRegion, 'u16' | 'u32'>,
    layout: RingLayout,
    bufferCount: number,
    isIndirect: boolean,
  ) {
    this.#u16 = u16;
    this.#u32 = u32;
    this.#layout = layout;
    this.#bufferCount = bufferCount;
    this.#isIndirect = isIndirect;
  }

  offer(count: number): void {
    const { available, size } = this.#layout;
    const ring = (available + VRING_AVAIL_RING_OFFSET) / 2;
    for (let i = 0; i < count; i += 1) {
      this.#u16[ring + (this.#availIdx & (size - 1))] = this.#descriptor;
      if (this.#isIndirect) this.#writeIndirect();
      else this.#writeChain();
      this.#availIdx = (this.#availIdx + 1) & 0xffff;
    }
    storeIndexRelease(this.#u16, (available + VRING_AVAIL.offset.idx) / 2, this.#availIdx);
  }

  /** In order, entries of the used ring may be skipped (VIRTIO §2.7.9): the index says how many came back. */
  collect(): number {
    const { available, used, size } = this.#layout;
    const index = loadIndexAcquire(this.#u16, (used + VRING_USED.offset.idx) / 2);
    const ring = (used + VRING_USED_RING_OFFSET) / 4;
    let count = 0;
    while (this.#usedIdx !== index) {
      this.headSum += this.#u32[ring + (this.#usedIdx & (size - 1)) * USED_WORDS + USED_ID]!;
      this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
      count += 1;
    }
    storeIndexRelease(this.#u16, (available + vringUsedEventOffset(size)) / 2, index);
    return count;
  }

  #writeChain(): void {
    const { descriptors, payload, size } = this.#layout;
    const bufferCount = this.#bufferCount;
    for (let j = 0; j < bufferCount; j += 1) {
      const next = (this.#descriptor + 1) & (size - 1);
      const link = j + 1 < bufferCount ? F_NEXT | (next << 16) : 0;
      this.#write(descriptors, this.#descriptor, payload + j * BUFFER_SIZE, BUFFER_SIZE, writable(j) | link);
      this.#descriptor = next;
    }
  }

  #writeIndirect(): void {
    const { descriptors, payload, tables, size } = this.#layout;
    const bufferCount = this.#bufferCount;
    const table = tables + this.#descriptor * bufferCount * DESC_WORDS * 4;
    for (let j = 0; j < bufferCount; j += 1) {
      const link = j + 1 < bufferCount ? F_NEXT | ((j + 1) << 16) : 0;
      this.#write(table, j, payload + j * BUFFER_SIZE, BUFFER_SIZE, writable(j) | link);
    }
    this.#write(descriptors, this.#descriptor, table, bufferCount * DESC_WORDS * 4, F_INDIRECT);
    this.#descriptor = (this.#descriptor + 1) & (size - 1);
  }

  #write(table: number, index: number, address: number, length: number, link: number): void {
    const u32 = this.#u32;
    const at = table / 4 + index * DESC_WORDS;
    u32[at + LOW] = address;
    u32[at + LOW + 1] = 0;
    u32[at + LEN] = length;
    u32[at + LINK] = link;
  }
}

/** The first buffer of a request is for the device to read, the others to write. */
function writable(index: number): number {
  return index === 0 ? 0 : F_WRITE;
}
