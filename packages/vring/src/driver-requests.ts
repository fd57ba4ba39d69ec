import type { DmaMapper } from '@virtlab/guest-memory';
import { type RingBufferList } from './buffer-list.ts';
import { BufferRecords } from './buffer-records.ts';
import type { BufferList } from './contract.ts';
import type { DriverAreas } from './driver-areas.ts';

/** Token of an id that names no request in flight. */
export const NO_TOKEN = -1;
const NONE = NO_TOKEN;

/** Words kept for each id, in one array because each array touched costs. */
const WORDS = 4;
/** What `popUsed` gives back, or `NO_TOKEN`. */
const TOKEN = 0;
/** First record: that of the id itself, or the first of its table. */
const FIRST = 1;
/** Buffers, and in the high half the number of requests added before, modulo 65536. */
const COUNT = 2;
const COUNT_MASK = 0xffff;
const SEQUENCE_SHIFT = 16;
/** Writable bytes, as a signed word. */
const WRITABLE = 3;

/**
 * What a driver half remembers of its requests, whatever the format of the ring. A request is named by an id below the
 * queue size, which is that of its first free descriptor (split) or buffer id (packed), and takes as many ids as ring
 * descriptors. Ids are taken from a list, last freed first; in ring order when the device uses them in order.
 */
export class DriverRequests {
  /** Requests added and not finished. */
  inFlightCount = 0;
  /** Ids not taken. */
  freeCount: number;
  /** Id of the next request. */
  freeId = 0;
  /** With IN_ORDER: id of the request that comes back next, if any is in flight. */
  oldestId = 0;
  /** Requests added, modulo 65536, and those of them that the device can see. */
  stagedSequence = 0;
  publishedSequence = 0;
  /** What the device says it wrote to the request finished last. */
  usedSize = 0;
  clampedCount = 0;
  /** The device kept memory whose share should have ended. */
  isMemoryHeld = false;
  readonly records: BufferRecords;
  readonly #inOrder: boolean;
  readonly #size: number;
  readonly #tableCapacity: number;
  readonly #words: Int32Array;

  constructor(dma: DmaMapper, areas: DriverAreas, inOrder: boolean) {
    const { size } = areas.addresses;
    this.#size = size;
    this.#inOrder = inOrder;
    this.#tableCapacity = areas.tableCapacity;
    this.records = new BufferRecords(dma, size, areas.tableCapacity, inOrder);
    this.#words = new Int32Array(size * WORDS);
    for (let id = 0; id < size; id++) this.#words[id * WORDS + TOKEN] = NONE;
    this.freeCount = size;
  }

  /** The buffers as the list that they are; throws `RangeError` or `TypeError` for what no queue of this size takes. */
  check(buffers: BufferList, token: number): RingBufferList {
    const list = buffers as RingBufferList;
    const count = list.count;
    if (list.words === undefined || count === 0 || count > this.#size || (token | 0) !== token || token < 0) {
      refuse(list, token, this.#size);
    }
    return list;
  }

  /** Whether a list goes into an indirect table; it then takes one id, else as many as it has buffers. */
  usesTable(count: number): boolean {
    return count > 1 && count <= this.#tableCapacity;
  }

  /** First record of the table that belongs to an id. */
  tableOf(id: number): number {
    return this.#size + id * this.#tableCapacity;
  }

  /** Takes the id `freeId` for a request whose buffers are placed from record `first` on, `last` being its last id. */
  begin(list: RingBufferList, token: number, first: number, last: number): void {
    const id = this.freeId;
    const own = id * WORDS;
    const words = this.#words;
    const count = list.count;
    const sequence = this.stagedSequence;
    words[own + TOKEN] = token;
    words[own + FIRST] = first;
    words[own + COUNT] = count | (sequence << SEQUENCE_SHIFT);
    words[own + WRITABLE] = list.writableSize;
    this.inFlightCount++;
    this.stagedSequence = (sequence + 1) & 0xffff;
    this.freeCount -= first === id ? count : 1;
    this.freeId = this.records.next(last);
  }

  /** The same for a request in a table of the caller's: no records, and one id. */
  beginTable(count: number, writableSize: number, token: number): void {
    if (this.#tableCapacity === 0 || count <= 0 || count > this.#size || (token | 0) !== token || token < 0)
      refuseTable(count, token, this.#tableCapacity, this.#size);
    const id = this.freeId;
    const own = id * WORDS;
    const words = this.#words;
    const sequence = this.stagedSequence;
    words[own + TOKEN] = token;
    words[own + FIRST] = this.#size;
    words[own + COUNT] = sequence << SEQUENCE_SHIFT;
    words[own + WRITABLE] = writableSize;
    this.inFlightCount++;
    this.stagedSequence = (sequence + 1) & 0xffff;
    this.freeCount--;
    this.freeId = this.records.next(id);
  }

  /** Token of a request that the device has, or `NO_TOKEN`. */
  token(id: number): number {
    const token = this.#words[id * WORDS + TOKEN]!;
    return token >= 0 && this.stagedSequence !== this.publishedSequence && this.#isStaged(id) ? NONE : token;
  }

  /** Requests that the device has. */
  get publishedCount(): number {
    return this.inFlightCount - ((this.stagedSequence - this.publishedSequence) & 0xffff);
  }

  /** Requests added before this one, modulo 65536. */
  sequence(id: number): number {
    return this.#words[id * WORDS + COUNT]! >>> SEQUENCE_SHIFT;
  }

  /**
   * Ends the shares of a request in flight and frees its ids: as many as it had ring descriptors, which is the answer. 0,
   * with nothing freed, when the device holds memory.
   */
  finish(id: number, writtenSize: number): number {
    const words = this.#words;
    const records = this.records;
    const own = id * WORDS;
    const first = words[own + FIRST]!;
    const count = words[own + COUNT]! & COUNT_MASK;
    if (!records.end(first, count)) {
      this.isMemoryHeld = true;
      return 0;
    }
    words[own + TOKEN] = NONE;
    this.inFlightCount--;
    const isDirect = first === id;
    const slotCount = isDirect ? count : 1;
    const last = isDirect ? records.lastRecord : id;
    this.freeCount += slotCount;
    if (this.#inOrder) this.oldestId = records.next(last);
    else {
      records.setNext(last, this.freeId);
      this.freeId = id;
    }
    const writable = words[own + WRITABLE]! >>> 0;
    if (writtenSize > writable) this.clampedCount++;
    this.usedSize = writtenSize > writable ? writable : writtenSize;
    return slotCount;
  }

  /** The same for a request that the device completed without saying so: all of it was used (§2.7.9, §2.8.8). */
  finishWhole(id: number): number {
    return this.finish(id, this.#words[id * WORDS + WRITABLE]! >>> 0);
  }

  /** Ends the shares of everything in flight; false when the device holds memory. */
  abandon(onAbandoned?: (token: number) => void): void {
    const words = this.#words;
    for (const id of this.inFlight()) {
      const own = id * WORDS;
      if (!this.records.end(words[own + FIRST]!, words[own + COUNT]! & COUNT_MASK)) this.isMemoryHeld = true;
      const token = words[own + TOKEN]!;
      words[own + TOKEN] = NONE;
      this.inFlightCount--;
      onAbandoned?.(token);
    }
  }

  /** Ids in flight, ascending. */
  inFlight(): number[] {
    const ids = Array.from({ length: this.#size }, (_, id) => id);
    return ids.filter((id) => this.#words[id * WORDS + TOKEN] !== NONE);
  }

  #isStaged(id: number): boolean {
    const staged = (this.stagedSequence - this.publishedSequence) & 0xffff;
    return ((this.sequence(id) - this.publishedSequence) & 0xffff) < staged;
  }
}

function refuse(list: RingBufferList, token: number, size: number): never {
  if (list.words === undefined) throw new TypeError('Buffers were not made by createBufferList');
  if (list.count === 0 || list.count > size) {
    throw new RangeError(
      `A request of ${list.count} buffers does not fit a queue of ${size} (VIRTIO §2.7.5.3.1, §2.8.17)`,
    );
  }
  throw new RangeError(`Token ${token} is not a 31-bit integer`);
}

function refuseTable(count: number, token: number, tableCapacity: number, size: number): never {
  if (tableCapacity === 0) throw new TypeError('A queue without indirect descriptors takes no table');
  if (!(count > 0 && count <= size)) {
    throw new RangeError(`A table of ${count} buffers does not fit a queue of ${size} (VIRTIO §2.7.5.3.1)`);
  }
  throw new RangeError(`Token ${token} is not a 31-bit integer`);
}
