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

/** Words of a record. The last one holds what the buffer is and which record follows. */
const RECORD_WORDS = 4;
const RECORD_LOW = 0;
const RECORD_HIGH = 1;
const RECORD_SIZE = 2;
const RECORD_LINK = 3;
const KIND_BITS = 3;
const KIND_MASK = 7;

/**
 * The driver's private copy of every descriptor it wrote: one record for each descriptor of the ring, then
 * `tableCapacity` for each indirect table. Ending a share needs address, size and direction, and must not learn them
 * from memory that the device can write (README, case 39). A record is followed by the next of its chain or, in
 * a free descriptor, by the next free one; inside tables the order never changes.
 */
export class BufferRecords {
  /** Last record of the chain that `place` or `end` walked through. */
  lastRecord = 0;
  readonly #records: Uint32Array;
  readonly #dma: DmaMapper;
  readonly #words: Uint32Array;

  constructor(dma: DmaMapper, queueSize: number, tableCapacity: number) {
    const count = queueSize * (1 + tableCapacity);
    this.#dma = dma;
    this.#words = dma.memory.u32;
    this.#records = new Uint32Array(count * RECORD_WORDS);
    for (let record = 0; record < count; record++) this.#setLink(record, record + 1, COHERENT);
  }

  next(record: number): number {
    return this.#records[record * RECORD_WORDS + RECORD_LINK]! >>> KIND_BITS;
  }

  /** Makes `next` follow `record`, whose share has ended. */
  setNext(record: number, next: number): void {
    this.#setLink(record, next, COHERENT);
  }

  /**
   * Shares the buffers and writes their descriptors along the records from `first`. Descriptor of record r lies at
   * word `base + r * DESC_WORDS`; its index in its table is `r - bias`. Number of buffers placed: fewer than
   * `buffers.count` when no address could be had, and then the caller takes back those (`end`).
   */
  place(buffers: RingBufferList, first: number, base: number, bias: number): number {
    const list = buffers.words;
    const count = buffers.count;
    const words = this.#words;
    const records = this.#records;
    const dma = this.#dma;
    let record = first;
    for (let i = 0; ;) {
      const from = i * FROM_WORDS;
      const kind = list[from + FROM_KIND]!;
      const size = list[from + FROM_SIZE]!;
      const own = record * RECORD_WORDS;
      const next = records[own + RECORD_LINK]! >>> KIND_BITS;
      let low = list[from + FROM_LOW]!;
      let high = list[from + FROM_HIGH]!;
      if ((kind & COHERENT) === 0) {
        if (!dma.share(low, size, directionOf(kind))) return i;
        low = dma.addressLow;
        high = dma.addressHigh;
        records[own + RECORD_LOW] = low;
        records[own + RECORD_HIGH] = high;
        records[own + RECORD_SIZE] = size;
        records[own + RECORD_LINK] = (next << KIND_BITS) | kind;
      }
      const more = ++i < count;
      const at = base + record * WORDS;
      words[at + LOW] = low;
      words[at + HIGH] = high;
      words[at + LEN] = size;
      words[at + LINK] = (kind & F_WRITE) | (more ? F_NEXT | ((next - bias) << NEXT_SHIFT) : 0);
      if (!more) break;
      record = next;
    }
    this.lastRecord = record;
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

  #setLink(record: number, next: number, kind: number): void {
    this.#records[record * RECORD_WORDS + RECORD_LINK] = (next << KIND_BITS) | kind;
  }
}

function directionOf(kind: number): DmaDirection {
  return (kind & F_WRITE) === 0 ? TO_DEVICE : FROM_DEVICE;
}
