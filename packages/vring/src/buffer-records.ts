import { VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDirection, type DmaMapper } from '@virtlab/guest-memory';
import {
  BUFFER_COHERENT,
  LIST_HIGH,
  LIST_KIND,
  LIST_LOW,
  LIST_SIZE,
  LIST_WORDS,
  type RingBufferList,
} from './buffer-list.ts';
import { PACKED_FLAGS_SHIFT } from './packed-views.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
} from './ring-views.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_NEXT = VRING_DESC_F_NEXT;
const F_WRITE = VRING_DESC_F_WRITE;
const FROM_DEVICE = DMA_FROM_DEVICE;
const TO_DEVICE = DMA_TO_DEVICE;
const COHERENT = BUFFER_COHERENT;
const FROM_HIGH = LIST_HIGH;
const FROM_KIND = LIST_KIND;
const FROM_LOW = LIST_LOW;
const FROM_SIZE = LIST_SIZE;
const FROM_WORDS = LIST_WORDS;
const HIGH = DESC_ADDR_HIGH;
const LOW = DESC_ADDR_LOW;
const LINK = DESC_FLAGS_NEXT;
const LEN = DESC_LEN;
const NEXT_SHIFT = DESC_NEXT_SHIFT;
const WORDS = DESC_WORDS;
const PACKED_SHIFT = PACKED_FLAGS_SHIFT;

/** Words of a record. The last one holds what the buffer is and which record follows. */
const RECORD_WORDS = 4;
const RECORD_LOW = 0;
const RECORD_HIGH = 1;
const RECORD_SIZE = 2;
const RECORD_LINK = 3;
const KIND_BITS = 3;
const KIND_MASK = 7;

/** `place` could get no device address. */
export const NO_BUFFER_ADDRESS = -1;
const NO_ADDRESS = NO_BUFFER_ADDRESS;

/**
 * The driver's private copy of every descriptor it wrote: one record for each descriptor of the ring, then
 * `tableCapacity` for each indirect table. Ending a share needs address, size and direction, and must not learn them
 * from memory that the device can write (README, case 39). A record is followed by the next of its chain or, in
 * a free descriptor, by the next free one; inside tables the order never changes.
 */
export class BufferRecords {
  /** Last record of the chain that `end` walked through. */
  lastRecord = 0;
  readonly #records: Uint32Array;
  readonly #dma: DmaMapper;
  readonly #words: Uint32Array;

  /** `circular`: the last record of the ring is followed by the first, for descriptors used in ring order for ever. */
  constructor(dma: DmaMapper, queueSize: number, tableCapacity: number, circular: boolean) {
    const count = queueSize * (1 + tableCapacity);
    this.#dma = dma;
    this.#words = dma.memory.u32;
    this.#records = new Uint32Array(count * RECORD_WORDS);
    for (let record = 0; record < count; record++) this.setNext(record, record + 1);
    if (circular) this.setNext(queueSize - 1, 0);
  }

  next(record: number): number {
    return this.#records[record * RECORD_WORDS + RECORD_LINK]! >>> KIND_BITS;
  }

  /** Makes `next` follow `record`, whose share has ended. */
  setNext(record: number, next: number): void {
    this.#records[record * RECORD_WORDS + RECORD_LINK] = (next << KIND_BITS) | COHERENT;
  }

  /**
   * Shares buffer `i` of a list and writes the address and length of its descriptor, whose first word is `at`: what all
   * descriptors have in common. `VRING_DESC_F_WRITE` or 0, or `NO_BUFFER_ADDRESS` with nothing done.
   */
  place(list: RingBufferList, i: number, record: number, at: number): number {
    const buffers = list.words;
    const from = i * FROM_WORDS;
    const kind = buffers[from + FROM_KIND]!;
    const size = buffers[from + FROM_SIZE]!;
    const words = this.#words;
    words[at + LEN] = size;
    if ((kind & COHERENT) !== 0) {
      words[at + LOW] = buffers[from + FROM_LOW]!;
      words[at + HIGH] = buffers[from + FROM_HIGH]!;
      return kind & F_WRITE;
    }
    const dma = this.#dma;
    if (!dma.share(buffers[from + FROM_LOW]!, size, directionOf(kind))) return NO_ADDRESS;
    const records = this.#records;
    const own = record * RECORD_WORDS;
    const low = dma.addressLow;
    const high = dma.addressHigh;
    words[at + LOW] = low;
    words[at + HIGH] = high;
    records[own + RECORD_LOW] = low;
    records[own + RECORD_HIGH] = high;
    records[own + RECORD_SIZE] = size;
    records[own + RECORD_LINK] = (records[own + RECORD_LINK]! & ~KIND_MASK) | kind;
    return kind;
  }

  /**
   * Places a whole list in an indirect table, entries in order, whose records start at `first` and whose first
   * descriptor lies at word `at`. Split entries are linked (§2.7.5.3), packed ones follow one another (§2.8.7). Number of
   * buffers placed: fewer than the list has when no address could be had, and then the caller takes back those (`end`).
   */
  placeTable(list: RingBufferList, first: number, at: number, packed: boolean): number {
    const count = list.count;
    const words = this.#words;
    for (let i = 0; i < count; i++) {
      const entry = at + i * WORDS;
      const flags = this.place(list, i, first + i, entry);
      if (flags === NO_ADDRESS) return i;
      const isLast = i + 1 === count;
      if (packed) words[entry + LINK] = flags << PACKED_SHIFT;
      else words[entry + LINK] = isLast ? flags : flags | F_NEXT | ((i + 1) << NEXT_SHIFT);
    }
    return count;
  }

  /**
   * Ends the shares of `count` records from `first`, each once however often this is asked. False when the device
   * still holds one: the mapper keeps that memory out of use from then on, and the others are ended all the same.
   */
  end(first: number, count: number): boolean {
    const records = this.#records;
    let ended = true;
    let record = first;
    for (let i = 0; i < count; i++) {
      const own = record * RECORD_WORDS;
      const link = records[own + RECORD_LINK]!;
      this.lastRecord = record;
      record = link >>> KIND_BITS;
      if ((link & COHERENT) !== 0) continue;
      const low = records[own + RECORD_LOW]!;
      const high = records[own + RECORD_HIGH]!;
      const direction = directionOf(link & KIND_MASK);
      records[own + RECORD_LINK] = (record << KIND_BITS) | COHERENT;
      if (!this.#dma.unshare(low, high, records[own + RECORD_SIZE]!, direction)) ended = false;
    }
    return ended;
  }
}

function directionOf(kind: number): DmaDirection {
  return (kind & F_WRITE) === 0 ? TO_DEVICE : FROM_DEVICE;
}
