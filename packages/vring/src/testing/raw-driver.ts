import {
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_PACKED_EVENT_FLAG_DESC,
} from '@virtlab/abi/virtio-ring';
import {
  loadIndexAcquire,
  loadWordAcquire,
  type MemoryRegion,
  storeIndexRelease,
  storeWordRelease,
} from '@virtlab/guest-memory';
import type { DriverQueue } from '../contract.ts';
import {
  availableBits,
  PACKED_FLAGS_SHIFT,
  PACKED_HIGH,
  PACKED_ID_FLAGS,
  PACKED_LEN,
  PACKED_LOW,
  PACKED_OWNER_BITS,
  packedPosition,
  PackedViews,
  usedBits,
} from '../packed-views.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
  RingViews,
} from '../ring-views.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_NEXT = VRING_DESC_F_NEXT;
const F_WRITE = VRING_DESC_F_WRITE;
const HIGH = DESC_ADDR_HIGH;
const LOW = DESC_ADDR_LOW;
const LINK = DESC_FLAGS_NEXT;
const LEN = DESC_LEN;
const NEXT_SHIFT = DESC_NEXT_SHIFT;
const WORDS = DESC_WORDS;
const P_HIGH = PACKED_HIGH;
const P_ID_FLAGS = PACKED_ID_FLAGS;
const P_LEN = PACKED_LEN;
const P_LOW = PACKED_LOW;
const P_OWNER = PACKED_OWNER_BITS;
const P_SHIFT = PACKED_FLAGS_SHIFT;
const EVENT_ONE = VRING_PACKED_EVENT_FLAG_DESC << PACKED_FLAGS_SHIFT;

/** Bytes of each buffer. */
export const RAW_BUFFER_SIZE = 64;
const BUFFER_SIZE = RAW_BUFFER_SIZE;

/** A driver of plain stores that keeps nothing: what the benchmarks of other rings put before their device half. */
export interface RawDriver {
  /** Makes `count` requests available, in one batch. */
  offer(count: number): void;
  /** Completions since the last time; asks for a call for the next one. */
  collect(): number;
}

/** Where the areas lie if device addresses are offsets in `region`. */
function areasOf({ addresses }: DriverQueue, region: MemoryRegion) {
  const at = (address: bigint): { region: MemoryRegion; offset: number } => ({
    region,
    offset: Number(address),
  });
  const { descriptorArea, driverArea, deviceArea } = addresses;
  return [at(descriptorArea), at(driverArea), at(deviceArea)] as const;
}

/** For split rings. */
/** Writes descriptors in ring order with no bookkeeping, and asks for a call after each batch. */
export class RawSplitDriver implements RawDriver {
  readonly #ring: RingViews;
  readonly #payload: number;
  readonly #bufferCount: number;
  #descriptor = 0;
  #availIdx = 0;
  #usedIdx = 0;

  constructor(queue: DriverQueue, region: MemoryRegion, payload: number, bufferCount: number) {
    this.#ring = new RingViews(queue.size, ...areasOf(queue, region));
    this.#payload = payload;
    this.#bufferCount = bufferCount;
  }

  offer(count: number): void {
    const { desc32, descBase, avail16, availRing, availIdx, mask } = this.#ring;
    const bufferCount = this.#bufferCount;
    for (let i = 0; i < count; i++) {
      avail16[availRing + (this.#availIdx & mask)] = this.#descriptor;
      for (let j = 0; j < bufferCount; j++) {
        const at = descBase + this.#descriptor * WORDS;
        const next = (this.#descriptor + 1) & mask;
        desc32[at + LOW] = this.#payload + j * BUFFER_SIZE;
        desc32[at + HIGH] = 0;
        desc32[at + LEN] = BUFFER_SIZE;
        desc32[at + LINK] = (j > 0 ? F_WRITE : 0) | (j + 1 < bufferCount ? F_NEXT | (next << NEXT_SHIFT) : 0);
        this.#descriptor = next;
      }
      this.#availIdx = (this.#availIdx + 1) & 0xffff;
    }
    storeIndexRelease(avail16, availIdx, this.#availIdx);
  }

  collect(): number {
    const { avail16, usedEvent, used16, usedIdx } = this.#ring;
    const index = loadIndexAcquire(used16, usedIdx);
    const count = (index - this.#usedIdx) & 0xffff;
    this.#usedIdx = index;
    storeIndexRelease(avail16, usedEvent, index);
    return count;
  }
}

/** For packed rings: buffer ids go up with the slots. */
export class RawPackedDriver implements RawDriver {
  readonly #ring: PackedViews;
  readonly #payload: number;
  readonly #bufferCount: number;
  #slot = 0;
  #bits: number = availableBits(1);
  #usedSlot = 0;
  #usedBits: number = usedBits(1);

  constructor(queue: DriverQueue, region: MemoryRegion, payload: number, bufferCount: number) {
    this.#ring = new PackedViews(queue.size, ...areasOf(queue, region));
    this.#payload = payload;
    this.#bufferCount = bufferCount;
  }

  offer(count: number): void {
    const { desc32, descBase, size } = this.#ring;
    const bufferCount = this.#bufferCount;
    const head = descBase + this.#slot * WORDS + P_ID_FLAGS;
    let headWord = 0;
    for (let i = 0; i < count; i++) {
      const id = this.#slot;
      for (let j = 0; j < bufferCount; j++) {
        const at = descBase + this.#slot * WORDS;
        const flags = (j > 0 ? F_WRITE : 0) | (j + 1 < bufferCount ? F_NEXT : 0);
        const word = id | (flags << P_SHIFT) | this.#bits;
        desc32[at + P_LOW] = this.#payload + j * BUFFER_SIZE;
        desc32[at + P_HIGH] = 0;
        desc32[at + P_LEN] = BUFFER_SIZE;
        if (i === 0 && j === 0) headWord = word;
        else desc32[at + P_ID_FLAGS] = word;
        if (++this.#slot === size) {
          this.#slot = 0;
          this.#bits ^= P_OWNER;
        }
      }
    }
    storeWordRelease(desc32, head, headWord);
  }

  collect(): number {
    const { desc32, descBase, driver32, driverEvent, size } = this.#ring;
    let count = 0;
    for (;;) {
      const word = loadWordAcquire(desc32, descBase + this.#usedSlot * WORDS + P_ID_FLAGS);
      if ((word & P_OWNER) !== this.#usedBits) break;
      count++;
      this.#usedSlot += this.#bufferCount;
      if (this.#usedSlot < size) continue;
      this.#usedSlot -= size;
      this.#usedBits ^= P_OWNER;
    }
    const wrap = this.#usedBits === 0 ? 0 : 1;
    storeWordRelease(driver32, driverEvent, EVENT_ONE | packedPosition(this.#usedSlot, wrap));
    return count;
  }
}
