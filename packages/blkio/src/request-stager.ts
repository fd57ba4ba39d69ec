import {
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '@virtlab/abi/virtio-blk';
import type { BufferList } from '@virtlab/vring';
import { BLKIO_REQ_FUA, BLKIO_REQ_NO_FALLBACK, BLKIO_REQ_NO_UNMAP, type BlkioRegion } from './contract.ts';
import type { DiskState } from './disk-state.ts';
import { RESULT_ENOTSUP, RESULT_EROFS } from './errors.ts';
import { refuseRange, refuseTransfer } from './misuse.ts';
import type { Region } from './region.ts';
import type { RequestRing } from './request-ring.ts';
import type { RequestVector } from './vector.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const IN = VIRTIO_BLK_T_IN;
const OUT = VIRTIO_BLK_T_OUT;
const FLUSH = VIRTIO_BLK_T_FLUSH;
const FUA = BLKIO_REQ_FUA;

const PER_SECTOR = 1 / VIRTIO_BLK_SECTOR_SIZE;
const WORD = 2 ** 32;
const TOKEN_MAX = Number.MAX_SAFE_INTEGER;
const NO_FLAGS = 0;
const ZEROES_FLAGS = BLKIO_REQ_FUA | BLKIO_REQ_NO_UNMAP | BLKIO_REQ_NO_FALLBACK;

/**
 * Requests as they are staged: checked, cut into buffers, put on the ring. Each answers 0, `BLKIO_FULL` or `BLKIO_BROKEN`, and throws
 * `RangeError` or `TypeError` for what no disk can take.
 */
export class RequestStager {
  readonly #ring: RequestRing;
  readonly #disk: DiskState;
  readonly #list: BufferList;
  readonly #isIndirect: boolean;
  /** Zeroes to write from, where the disk has no write zeroes. */
  readonly #zeroes: Region | undefined;

  constructor(ring: RequestRing, disk: DiskState, isIndirect: boolean, zeroes: Region | undefined) {
    this.#ring = ring;
    this.#disk = disk;
    this.#list = ring.list;
    this.#isIndirect = isIndirect;
    this.#zeroes = zeroes;
  }

  /** `IN` or `OUT` over a part of a region. 0, `BLKIO_FULL` or `BLKIO_BROKEN`. Throws `RangeError`, `TypeError`. */
  transfer(
    type: number,
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    token: number,
    flags: number,
    face: number,
  ): number {
    const disk = this.#disk;
    const lent = region as Region;
    const blocks = position * disk.perBlock;
    if (
      lent.owner !== disk ||
      (size | 0) !== size ||
      size <= 0 ||
      size > disk.transferSizeMax ||
      (size & disk.alignmentMask) !== 0 ||
      offset >>> 0 !== offset ||
      offset + size > lent.size ||
      !(position >= 0 && position + size <= disk.capacity) ||
      Math.floor(blocks) !== blocks ||
      !isToken(token) ||
      (flags !== 0 && (flags !== FUA || type === IN))
    ) {
      refuseTransfer(disk, { position, region, offset, size, token, flags });
    }
    if (type === OUT && disk.readOnly) return this.#ring.complete(RESULT_EROFS, token, face);
    const { slots, next: slot } = this.#ring;
    if (slot < 0) return slot;
    const isDurable = flags !== 0 && disk.needsFlush ? 1 : 0;
    if (this.#isIndirect && size <= disk.segmentSizeMax) {
      const low = lent.addressLow + offset;
      const high = low >= WORD ? lent.addressHigh + 1 : lent.addressHigh;
      const sector = position * PER_SECTOR;
      const status = slots.addTransfer(this.#ring.ring, slot, type, sector, low, high, size, type === IN);
      return this.#ring.staged(status, slot, token, face, isDurable);
    }
    slots.begin(this.#list, slot, type, position * PER_SECTOR);
    this.#addParts(type, lent, offset, size);
    slots.end(this.#list, slot);
    return this.#ring.stage(slot, token, face, isDurable);
  }

  /** The same over the pieces of a vector. */
  transferVector(
    type: number,
    position: number,
    vector: RequestVector,
    token: number,
    flags: number,
    face: number,
  ): number {
    const disk = this.#disk;
    const { count, totalSize } = vector;
    const blocks = position * disk.perBlock;
    if (
      !(position >= 0 && position + totalSize <= disk.capacity) ||
      Math.floor(blocks) !== blocks ||
      count === 0 ||
      count > disk.segmentCountMax ||
      totalSize > disk.transferSizeMax ||
      (totalSize & disk.alignmentMask) !== 0 ||
      vector.pieceSizeMax > disk.segmentSizeMax ||
      !vector.isOf(disk) ||
      !isToken(token) ||
      (flags !== 0 && (flags !== FUA || type === IN))
    ) {
      refuseTransfer(disk, { position, vector, size: totalSize, token, flags });
    }
    if (type === OUT && disk.readOnly) return this.#ring.complete(RESULT_EROFS, token, face);
    const { slots, next: slot } = this.#ring;
    if (slot < 0) return slot;
    const list = this.#list;
    const { addressLow, addressHigh, sizes } = vector;
    slots.begin(list, slot, type, position * PER_SECTOR);
    for (let at = 0; at < count; at += 1) {
      if (type === IN) list.addCoherentWritable(addressLow[at]!, addressHigh[at]!, sizes[at]!);
      else list.addCoherentReadable(addressLow[at]!, addressHigh[at]!, sizes[at]!);
    }
    slots.end(list, slot);
    return this.#ring.stage(slot, token, face, flags !== 0 && disk.needsFlush ? 1 : 0);
  }

  flush(token: number, flags: number, face: number): number {
    if (!isToken(token) || flags !== NO_FLAGS) refuseRange(this.#disk, { what: 'flush', token, flags });
    // Without VIRTIO_BLK_F_FLUSH what is complete is durable (§5.2.6.2).
    if (!this.#disk.hasFlush) return this.#ring.complete(0, token, face);
    const { slots, next: slot } = this.#ring;
    if (slot < 0) return slot;
    slots.begin(this.#list, slot, FLUSH, 0);
    slots.end(this.#list, slot);
    return this.#ring.stage(slot, token, face, 0);
  }

  discard(position: number, size: number, token: number, flags: number, face: number): number {
    const disk = this.#disk;
    this.#checkRange('discard', position, size, token, flags, NO_FLAGS, disk.discardSizeMax);
    if (disk.readOnly) return this.#ring.complete(RESULT_EROFS, token, face);
    if (disk.discardSizeMax === 0) return this.#ring.complete(RESULT_ENOTSUP, token, face);
    return this.#range(VIRTIO_BLK_T_DISCARD, position, size, 0, token, face, 0);
  }

  writeZeroes(position: number, size: number, token: number, flags: number, face: number): number {
    const disk = this.#disk;
    this.#checkRange('write zeroes', position, size, token, flags, ZEROES_FLAGS, disk.writeZeroesSizeMax);
    if (disk.readOnly) return this.#ring.complete(RESULT_EROFS, token, face);
    const isDurable = (flags & FUA) !== 0 && disk.needsFlush ? 1 : 0;
    if (disk.hasWriteZeroes) {
      const unmap = (flags & BLKIO_REQ_NO_UNMAP) === 0 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
      return this.#range(VIRTIO_BLK_T_WRITE_ZEROES, position, size, unmap, token, face, isDurable);
    }
    if ((flags & BLKIO_REQ_NO_FALLBACK) !== 0) return this.#ring.complete(RESULT_ENOTSUP, token, face);
    const { slots, next: slot } = this.#ring;
    if (slot < 0) return slot;
    const zeroes = this.#zeroes!;
    slots.begin(this.#list, slot, OUT, position * PER_SECTOR);
    for (let left = size; left > 0; left -= zeroes.size)
      addPart(this.#list, OUT, zeroes, 0, Math.min(left, zeroes.size));
    slots.end(this.#list, slot);
    return this.#ring.stage(slot, token, face, isDurable);
  }

  #addParts(type: number, region: Region, offset: number, size: number): void {
    const { segmentSizeMax } = this.#disk;
    for (let done = 0; done < size; done += segmentSizeMax)
      addPart(this.#list, type, region, offset + done, Math.min(size - done, segmentSizeMax));
  }

  #checkRange(
    what: string,
    position: number,
    size: number,
    token: number,
    flags: number,
    allowed: number,
    sizeMax: number,
  ): void {
    const disk = this.#disk;
    const blocks = position * disk.perBlock;
    const blockCount = size * disk.perBlock;
    const isInside = position >= 0 && size > 0 && position + size <= disk.capacity;
    const isAligned = Math.floor(blocks) === blocks && Math.floor(blockCount) === blockCount;
    // A disk without the request has no limit for it, and says so by the result.
    const isShort = size <= sizeMax || sizeMax === 0;
    if (!isInside || !isAligned || !isShort || !isToken(token) || (flags & ~allowed) !== 0)
      refuseRange(disk, { what, position, size, sizeMax, token, flags });
  }

  #range(
    type: number,
    position: number,
    size: number,
    rangeFlags: number,
    token: number,
    face: number,
    isDurable: number,
  ): number {
    const { slots, next: slot } = this.#ring;
    if (slot < 0) return slot;
    const list = this.#list;
    slots.begin(list, slot, type, 0);
    slots.addRange(list, slot, position * PER_SECTOR, size * PER_SECTOR, rangeFlags);
    slots.end(list, slot);
    return this.#ring.stage(slot, token, face, isDurable);
  }
}

function addPart(list: BufferList, type: number, region: Region, offset: number, size: number): void {
  const low = region.addressLow + offset;
  const high = low >= WORD ? region.addressHigh + 1 : region.addressHigh;
  if (type === IN) list.addCoherentWritable(low >>> 0, high, size);
  else list.addCoherentReadable(low >>> 0, high, size);
}

function isToken(token: number): boolean {
  return token >= 0 && token <= TOKEN_MAX && Math.floor(token) === token;
}
