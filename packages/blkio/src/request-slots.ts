import {
  VIRTIO_BLK_DISCARD_WRITE_ZEROES,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_STATUS_SIZE,
} from '@virtlab/abi/virtio-blk';
import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import { writeHeader, writeRange } from '@virtlab/virtio-blk';
import {
  type BufferList,
  type DriverQueue,
  TABLE_ENTRY_WORDS,
  tableLink,
  writeTableEntry,
} from '@virtlab/vring';
import { resultOfStatus } from './errors.ts';

/**
 * Header, range, status in one cache line, and an indirect table in another: neighbours do not share what the device writes.
 */
const SLOT_SIZE = 128;
const TABLE_AT = 64;
const HEADER_SIZE = VIRTIO_BLK_OUTHDR.size;
const RANGE_AT = HEADER_SIZE;
const RANGE_SIZE = VIRTIO_BLK_DISCARD_WRITE_ZEROES.size;
const STATUS_AT = RANGE_AT + RANGE_SIZE;
const STATUS_SIZE = VIRTIO_BLK_STATUS_SIZE;
/** No device answers this; it is still there when the device forgot the status. */
const STATUS_UNSET = 0xff;
const WORD = 2 ** 32;
const ENTRY_WORDS = TABLE_ENTRY_WORDS;
/** Buffers of a request with one data buffer. */
const TABLE_COUNT = 3;

/** What becomes of a request. */
export const SLOT_FREE = 0;
export const SLOT_IN_FLIGHT = 1;
/** It has a result that nobody took yet. */
export const SLOT_DONE = 2;

/**
 * The requests of one queue. Headers and status bytes lie in memory that is lent to the device as long as the disk is open;
 * bookkeeping in private arrays by slot. Made once; nothing is allocated per request. Headers are written whole for each
 * request and never read back: the device could have changed them.
 */
export class RequestSlots {
  readonly depth: number;
  readonly state: Uint8Array;
  readonly face: Uint8Array;
  /** A flush follows before the request is complete. */
  readonly isDurable: Uint8Array;
  readonly token: Float64Array;
  readonly result: Int32Array;
  /** When it was staged, in requests; modulo 2^32. */
  readonly sequence: Int32Array;
  freeCount: number;
  readonly #free: Uint32Array;
  /** Low word of the address of each slot; a slot never crosses 2^32, being aligned. */
  readonly #low: Uint32Array;
  readonly #high: Uint32Array;
  readonly #dma: DmaMapper;
  readonly #buffer: CoherentBuffer;
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #at: number;
  /** The last words of a table's entries; the data's by whether the device writes it. */
  readonly #headerLink: number;
  readonly #inLink: number;
  readonly #outLink: number;
  readonly #statusLink: number;

  /** @throws DmaError when there is no memory or no grant entry for the headers */
  constructor(dma: DmaMapper, depth: number, isPacked: boolean) {
    const buffer = dma.allocateCoherent(depth * SLOT_SIZE);
    this.#dma = dma;
    this.#buffer = buffer;
    this.#u8 = dma.memory.u8;
    this.#u32 = dma.memory.u32;
    this.#at = buffer.offset;
    this.#headerLink = tableLink(0, TABLE_COUNT, false, isPacked);
    this.#inLink = tableLink(1, TABLE_COUNT, true, isPacked);
    this.#outLink = tableLink(1, TABLE_COUNT, false, isPacked);
    this.#statusLink = tableLink(2, TABLE_COUNT, true, isPacked);
    this.depth = depth;
    this.freeCount = depth;
    this.#free = Uint32Array.from({ length: depth }, (_, slot) => depth - 1 - slot);
    this.state = new Uint8Array(depth);
    this.face = new Uint8Array(depth);
    this.isDurable = new Uint8Array(depth);
    this.token = new Float64Array(depth);
    this.result = new Int32Array(depth);
    this.sequence = new Int32Array(depth);
    this.#low = new Uint32Array(depth);
    this.#high = new Uint32Array(depth);
    for (let slot = 0; slot < depth; slot += 1) {
      const low = buffer.addressLow + slot * SLOT_SIZE;
      this.#low[slot] = low;
      this.#high[slot] = buffer.addressHigh + Math.floor(low / WORD);
    }
  }

  /** The slot that `take` would take. Only where `freeCount` is not 0. */
  get next(): number {
    return this.#free[this.freeCount - 1]!;
  }

  take(): void {
    this.freeCount -= 1;
  }

  give(slot: number): void {
    this.state[slot] = SLOT_FREE;
    this.#free[this.freeCount] = slot;
    this.freeCount += 1;
  }

  /** Begins a list with the slot's header, which is written: `sector` as a double below 2^53. */
  begin(buffers: BufferList, slot: number, type: number, sector: number): void {
    const at = this.#at + slot * SLOT_SIZE;
    writeHeader(this.#u32, at >>> 2, type, sector);
    this.#u8[at + STATUS_AT] = STATUS_UNSET;
    buffers.clear();
    buffers.addCoherentReadable(this.#low[slot]!, this.#high[slot]!, HEADER_SIZE);
  }

  /**
   * Writes a request with one data buffer, its table included, and adds it to the ring: 0, or an `ADD_*`. All of the table is
   * written: a device that took another's place need not pay for what that one left there.
   */
  addTransfer(
    ring: DriverQueue,
    slot: number,
    type: number,
    sector: number,
    low: number,
    high: number,
    size: number,
    isIn: boolean,
  ): number {
    const u32 = this.#u32;
    const at = this.#at + slot * SLOT_SIZE;
    const table = (at + TABLE_AT) >>> 2;
    const slotLow = this.#low[slot]!;
    const slotHigh = this.#high[slot]!;
    writeHeader(u32, at >>> 2, type, sector);
    this.#u8[at + STATUS_AT] = STATUS_UNSET;
    writeTableEntry(u32, table, slotLow, slotHigh, HEADER_SIZE, this.#headerLink);
    writeTableEntry(u32, table + ENTRY_WORDS, low, high, size, isIn ? this.#inLink : this.#outLink);
    writeTableEntry(
      u32,
      table + 2 * ENTRY_WORDS,
      slotLow + STATUS_AT,
      slotHigh,
      STATUS_SIZE,
      this.#statusLink,
    );
    const writableSize = isIn ? size + STATUS_SIZE : STATUS_SIZE;
    return ring.addTable(slotLow + TABLE_AT, slotHigh, TABLE_COUNT, writableSize, slot);
  }

  addRange(buffers: BufferList, slot: number, sector: number, sectorCount: number, flags: number): void {
    writeRange(this.#u32, (this.#at + slot * SLOT_SIZE + RANGE_AT) / 4, sector, sectorCount, flags);
    buffers.addCoherentReadable(this.#low[slot]! + RANGE_AT, this.#high[slot]!, RANGE_SIZE);
  }

  /** Ends a list. */
  end(buffers: BufferList, slot: number): void {
    buffers.addCoherentWritable(this.#low[slot]! + STATUS_AT, this.#high[slot]!, STATUS_SIZE);
  }

  /** What the device left: 0, or a negative errno. Reads the byte once. */
  answer(slot: number): number {
    const status = this.#u8[this.#at + slot * SLOT_SIZE + STATUS_AT]!;
    return status === 0 ? 0 : resultOfStatus(status);
  }

  /** Only after the device was reset. */
  release(): void {
    this.#dma.freeCoherent(this.#buffer);
  }
}
