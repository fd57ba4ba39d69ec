import {
  VIRTIO_BLK_APPEND_SECTOR_SIZE,
  VIRTIO_BLK_DISCARD_WRITE_ZEROES,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_STATUS_SIZE,
} from '@virtlab/abi/virtio-blk';
import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import type { BufferList } from '@virtlab/vring';
import { COMPLETION_EPROTO } from './errors.ts';
import { sectorFromWords, writeHeader, writeRange } from './protocol.ts';

/** Header, range, append sector, status: one cache line a request, so that neighbours do not share what the device writes. */
const SLOT_SIZE = 64;
const RANGE_AT = VIRTIO_BLK_OUTHDR.size;
const APPEND_AT = RANGE_AT + VIRTIO_BLK_DISCARD_WRITE_ZEROES.size;
/** Right behind the append sector, so that both are one buffer. */
const STATUS_AT = APPEND_AT + VIRTIO_BLK_APPEND_SECTOR_SIZE;
/** No device answers this; it is still there when the device forgot the status. */
const STATUS_UNSET = 0xff;

/**
 * The driver's requests: headers and status bytes in memory that is lent to the device as long as the driver lives,
 * bookkeeping in private arrays indexed by slot. Made once; nothing is allocated per request. Headers are never read
 * back: the device could have changed them.
 */
export class DriverSlots {
  /** Whose completion it is, and the caller's token. */
  readonly isInternal: Uint8Array;
  readonly token: Int32Array;
  /** Clock time at which the request is overdue; infinite until it was kicked. */
  readonly deadline: Float64Array;
  /** Bytes that a successful request has written, status included. */
  readonly expectedSize: Float64Array;
  readonly inUse: Uint8Array;
  readonly queueIndex: Uint16Array;
  readonly #dma: DmaMapper;
  readonly #buffer: CoherentBuffer;
  /** Device addresses of each slot's line; a line never crosses 2^32 since lines are aligned. */
  readonly #addressLow: Uint32Array;
  readonly #addressHigh: Uint32Array;
  readonly #free: Uint32Array;
  #freeCount: number;

  /** @throws DmaError when there is no memory or no grant entry for the headers */
  constructor(dma: DmaMapper, capacity: number) {
    this.#dma = dma;
    this.#buffer = dma.allocateCoherent(capacity * SLOT_SIZE);
    this.isInternal = new Uint8Array(capacity);
    this.token = new Int32Array(capacity);
    this.deadline = new Float64Array(capacity);
    this.expectedSize = new Float64Array(capacity);
    this.inUse = new Uint8Array(capacity);
    this.queueIndex = new Uint16Array(capacity);
    this.#addressLow = new Uint32Array(capacity);
    this.#addressHigh = new Uint32Array(capacity);
    this.#free = Uint32Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
    this.#freeCount = capacity;
    const { addressLow, addressHigh } = this.#buffer;
    for (let slot = 0; slot < capacity; slot += 1) {
      const low = addressLow + slot * SLOT_SIZE;
      this.#addressLow[slot] = low;
      this.#addressHigh[slot] = addressHigh + Math.floor(low / 2 ** 32);
    }
  }

  get capacity(): number {
    return this.token.length;
  }

  get inUseCount(): number {
    return this.token.length - this.#freeCount;
  }

  /** A slot for a request of `type`, header written and status unset; -1 when all are in use. */
  take(type: number, sector: number, token: number, isInternal: boolean): number {
    if (this.#freeCount === 0) return -1;
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount]!;
    const at = this.#buffer.offset + slot * SLOT_SIZE;
    const { memory } = this.#dma;
    writeHeader(memory.u32, at / 4, type, sector);
    memory.u8[at + STATUS_AT] = STATUS_UNSET;
    this.inUse[slot] = 1;
    this.token[slot] = token;
    this.isInternal[slot] = isInternal ? 1 : 0;
    this.deadline[slot] = Number.POSITIVE_INFINITY;
    return slot;
  }

  give(slot: number): void {
    this.inUse[slot] = 0;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  addHeader(buffers: BufferList, slot: number): void {
    buffers.addCoherentReadable(this.#addressLow[slot]!, this.#addressHigh[slot]!, VIRTIO_BLK_OUTHDR.size);
  }

  addRange(buffers: BufferList, slot: number, sector: number, sectorCount: number, flags: number): void {
    const at = this.#buffer.offset + slot * SLOT_SIZE + RANGE_AT;
    writeRange(this.#dma.memory.u32, at / 4, sector, sectorCount, flags);
    const low = this.#addressLow[slot]! + RANGE_AT;
    buffers.addCoherentReadable(low, this.#addressHigh[slot]!, VIRTIO_BLK_DISCARD_WRITE_ZEROES.size);
  }

  addStatus(buffers: BufferList, slot: number): void {
    const low = this.#addressLow[slot]! + STATUS_AT;
    buffers.addCoherentWritable(low, this.#addressHigh[slot]!, VIRTIO_BLK_STATUS_SIZE);
  }

  /** The status byte and, before it, where the data went. */
  addAppendStatus(buffers: BufferList, slot: number): void {
    const low = this.#addressLow[slot]! + APPEND_AT;
    const size = VIRTIO_BLK_APPEND_SECTOR_SIZE + VIRTIO_BLK_STATUS_SIZE;
    buffers.addCoherentWritable(low, this.#addressHigh[slot]!, size);
  }

  /** What the device left, `statusMax` being the last that exists for it; or `COMPLETION_EPROTO`. Reads the byte once. */
  completion(slot: number, statusMax: number): number {
    const status = this.#dma.memory.u8[this.#buffer.offset + slot * SLOT_SIZE + STATUS_AT]!;
    return status <= statusMax ? status : COMPLETION_EPROTO;
  }

  /** Reads it once; `Infinity` when it is beyond every disk. */
  appendSector(slot: number): number {
    const at = (this.#buffer.offset + slot * SLOT_SIZE + APPEND_AT) / 4;
    const { u32 } = this.#dma.memory;
    return sectorFromWords(u32[at]!, u32[at + 1]!);
  }

  /** Only after the device was reset. */
  release(): void {
    this.#dma.freeCoherent(this.#buffer);
  }
}
