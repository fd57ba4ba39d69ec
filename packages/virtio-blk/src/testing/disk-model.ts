import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';

/** A request before it is cut into descriptors: everything after the header, and everything before the status. */
export interface ModelRequest {
  readonly type: number;
  readonly sector: bigint;
  readonly payload: Uint8Array;
  readonly dataSize: number;
}

export interface ModelDisk {
  readonly contents: Uint8Array;
  readonly readOnly: boolean;
  readonly rangeCountMax: number;
  readonly rangeSectorsMax: number;
}

/**
 * What the specification wants of a disk in memory, by the document: the status, and what becomes of `contents`. Byte
 * positions are `bigint` here, so that nothing wraps.
 */
export function expectedStatus(disk: ModelDisk, { type, sector, payload, dataSize }: ModelRequest): number {
  const { contents, readOnly } = disk;
  const inside = (from: bigint, size: bigint): boolean => from * 512n + size <= BigInt(contents.length);
  switch (type) {
    case VIRTIO_BLK_T_IN:
      if (payload.length > 0 || dataSize % 512 !== 0) return VIRTIO_BLK_S_IOERR;
      return inside(sector, BigInt(dataSize)) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    case VIRTIO_BLK_T_OUT:
      if (readOnly || dataSize > 0 || payload.length % 512 !== 0) return VIRTIO_BLK_S_IOERR;
      if (!inside(sector, BigInt(payload.length))) return VIRTIO_BLK_S_IOERR;
      if (payload.length > 0) contents.set(payload, Number(sector) * 512);
      return VIRTIO_BLK_S_OK;
    case VIRTIO_BLK_T_FLUSH:
      return sector === 0n && payload.length === 0 && dataSize === 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    case VIRTIO_BLK_T_GET_ID:
      return payload.length === 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
    case VIRTIO_BLK_T_SECURE_ERASE:
      return expectedRanges(disk, type, payload, dataSize);
    default:
      return VIRTIO_BLK_S_UNSUPP;
  }
}

function expectedRanges(disk: ModelDisk, type: number, payload: Uint8Array, dataSize: number): number {
  if (disk.readOnly || dataSize > 0) return VIRTIO_BLK_S_IOERR;
  if (payload.length === 0 || payload.length % 16 !== 0) return VIRTIO_BLK_S_IOERR;
  if (payload.length / 16 > disk.rangeCountMax) return VIRTIO_BLK_S_UNSUPP;
  const view = new DataView(payload.buffer, payload.byteOffset);
  const ranges = Array.from({ length: payload.length / 16 }, (_, index) => ({
    sector: view.getBigUint64(index * 16, true),
    count: view.getUint32(index * 16 + 8, true),
    flags: view.getUint32(index * 16 + 12, true),
  }));
  const known = type === VIRTIO_BLK_T_WRITE_ZEROES ? 1 : 0;
  if (ranges.some(({ flags }) => (flags & ~known) !== 0)) return VIRTIO_BLK_S_UNSUPP;
  const capacity = BigInt(disk.contents.length / 512);
  const isPossible = ranges.every(
    ({ sector, count }) => count <= disk.rangeSectorsMax && sector + BigInt(count) <= capacity,
  );
  if (!isPossible) return VIRTIO_BLK_S_IOERR;
  if (type === VIRTIO_BLK_T_DISCARD) return VIRTIO_BLK_S_OK;
  for (const { sector, count } of ranges) {
    disk.contents.fill(0, Number(sector) * 512, (Number(sector) + count) * 512);
  }
  return VIRTIO_BLK_S_OK;
}
