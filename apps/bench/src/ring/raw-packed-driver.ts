import {
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_PACKED_DESC,
  VRING_PACKED_DESC_F_AVAIL,
  VRING_PACKED_DESC_F_USED,
  VRING_PACKED_EVENT_FLAG_DESC,
  VRING_PACKED_EVENT_F_WRAP_CTR,
} from '@virtlab/abi/virtio-ring';
import { type MemoryRegion, loadWordAcquire, storeWordRelease } from '@virtlab/guest-memory';
import type { RequestDriver } from './raw-driver.ts';
import { BUFFER_SIZE, type RingLayout } from './ring-layout.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const WORDS = VRING_PACKED_DESC.size / 4;
const LOW = VRING_PACKED_DESC.offset.addr / 4;
const LEN = VRING_PACKED_DESC.offset.len / 4;
/** `id` is the low half of this word and `flags` the high one. */
const ID_FLAGS = VRING_PACKED_DESC.offset.id / 4;
const FLAGS_SHIFT = 16;
const F_NEXT = VRING_DESC_F_NEXT << FLAGS_SHIFT;
const F_WRITE = VRING_DESC_F_WRITE << FLAGS_SHIFT;
const F_INDIRECT = VRING_DESC_F_INDIRECT << FLAGS_SHIFT;
const AVAIL = 1 << (VRING_PACKED_DESC_F_AVAIL + FLAGS_SHIFT);
const USED = 1 << (VRING_PACKED_DESC_F_USED + FLAGS_SHIFT);
const OWNER = AVAIL | USED;
const WANT_ONE = VRING_PACKED_EVENT_FLAG_DESC << FLAGS_SHIFT;
const WRAP_SHIFT = VRING_PACKED_EVENT_F_WRAP_CTR;

/**
 * As `RawDriver`, of a packed ring (VIRTIO §2.8): plain stores of descriptors, the first one's flags last. The areas of the
 * layout are descriptor ring, driver event and device event. Buffer ids count up.
 */
export class RawPackedDriver implements RequestDriver {
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #layout: RingLayout;
  readonly #bufferCount: number;
  readonly #isIndirect: boolean;
  readonly #eventIdx: boolean;
  /** Slots that a request takes. */
  readonly #slotCount: number;
  #slot = 0;
  #availableBits = AVAIL;
  #nextId = 0;
  #usedSlot = 0;
  #usedBits: number = OWNER;
  #usedId = 0;
  headSum = 0;

  constructor(
    { u32, i32 }: Pick<MemoryRegion, 'u32' | 'i32'>,
    layout: RingLayout,
    bufferCount: number,
    isIndirect: boolean,
    eventIdx: boolean,
  ) {
    this.#u32 = u32;
    this.#i32 = i32;
    this.#layout = layout;
    this.#bufferCount = bufferCount;
    this.#isIndirect = isIndirect;
    this.#eventIdx = eventIdx;
    this.#slotCount = isIndirect ? 1 : bufferCount;
  }

  offer(count: number): void {
    const first = this.#slot;
    const bits = this.#availableBits;
    const id = this.#nextId;
    for (let i = 0; i < count; i += 1) {
      if (this.#isIndirect) this.#writeIndirect(i > 0);
      else this.#writeChain(i > 0);
      this.#nextId = (this.#nextId + 1) & (this.#layout.size - 1);
    }
    const flags = this.#isIndirect ? F_INDIRECT : this.#bufferCount > 1 ? F_NEXT : 0;
    storeWordRelease(this.#i32, this.#at(first) + ID_FLAGS, id | flags | bits);
  }

  collect(): number {
    const mask = this.#layout.size - 1;
    let count = 0;
    let word = loadWordAcquire(this.#i32, this.#at(this.#usedSlot) + ID_FLAGS);
    while ((word & OWNER) === (this.#usedBits | 0)) {
      const id = word & 0xffff;
      this.headSum += id;
      // In order, one used descriptor may stand for all up to the request that it names (§2.8.8).
      const skipped = ((id - this.#usedId) & mask) + 1;
      this.#usedId = (id + 1) & mask;
      this.#usedSlot += skipped * this.#slotCount;
      if (this.#usedSlot >= this.#layout.size) {
        this.#usedSlot -= this.#layout.size;
        this.#usedBits ^= OWNER;
      }
      count += skipped;
      word = this.#i32[this.#at(this.#usedSlot) + ID_FLAGS]!;
    }
    if (this.#eventIdx) {
      const wrap = this.#usedBits === 0 ? 0 : 1;
      storeWordRelease(
        this.#i32,
        this.#layout.available / 4,
        WANT_ONE | (wrap << WRAP_SHIFT) | this.#usedSlot,
      );
    }
    return count;
  }

  #at(slot: number): number {
    return this.#layout.descriptors / 4 + slot * WORDS;
  }

  #writeChain(isShown: boolean): void {
    const { payload } = this.#layout;
    const bufferCount = this.#bufferCount;
    for (let j = 0; j < bufferCount; j += 1) {
      const flags = (j === 0 ? 0 : F_WRITE) | (j + 1 < bufferCount ? F_NEXT : 0);
      this.#write(payload + j * BUFFER_SIZE, BUFFER_SIZE, flags, isShown || j > 0);
    }
  }

  #writeIndirect(isShown: boolean): void {
    const { payload, tables } = this.#layout;
    const bufferCount = this.#bufferCount;
    const table = tables + this.#slot * bufferCount * WORDS * 4;
    const u32 = this.#u32;
    for (let j = 0; j < bufferCount; j += 1) {
      const at = table / 4 + j * WORDS;
      u32[at + LOW] = payload + j * BUFFER_SIZE;
      u32[at + LOW + 1] = 0;
      u32[at + LEN] = BUFFER_SIZE;
      u32[at + ID_FLAGS] = j === 0 ? 0 : F_WRITE;
    }
    this.#write(table, bufferCount * WORDS * 4, F_INDIRECT, isShown);
  }

  #write(address: number, length: number, flags: number, isShown: boolean): void {
    const u32 = this.#u32;
    const at = this.#at(this.#slot);
    u32[at + LOW] = address;
    u32[at + LOW + 1] = 0;
    u32[at + LEN] = length;
    if (isShown) u32[at + ID_FLAGS] = this.#nextId | flags | this.#availableBits;
    this.#slot += 1;
    if (this.#slot === this.#layout.size) {
      this.#slot = 0;
      this.#availableBits ^= OWNER;
    }
  }
}
