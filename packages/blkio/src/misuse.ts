/** The words for a request that no disk can take. Apart, because a function with texts in it is too long to inline. */
import type { BlkioRegion } from './contract.ts';
import type { DiskState } from './disk-state.ts';
import type { Region } from './region.ts';
import type { RequestVector } from './vector.ts';

export interface RefusedTransfer {
  readonly position: number;
  readonly size: number;
  readonly region?: BlkioRegion;
  readonly offset?: number;
  readonly vector?: RequestVector;
  readonly token: number;
  readonly flags: number;
}

/** Throws `TypeError` for a region that is not the disk's, otherwise `RangeError`. */
export function refuseTransfer(disk: DiskState, refused: RefusedTransfer): never {
  const { position, size, region, offset, vector, token, flags } = refused;
  const isOurs = vector === undefined ? (region as Region).owner === disk : vector.isOf(disk);
  if (!isOurs) throw new TypeError('The region is not one of this disk, or was given back');
  refusePlace(disk, position, size, disk.transferSizeMax);
  if (vector !== undefined) {
    if (vector.count === 0 || vector.count > disk.segmentCountMax)
      throw new RangeError(`${vector.count} pieces are not from 1 to ${disk.segmentCountMax}`);
    if (vector.pieceSizeMax > disk.segmentSizeMax)
      throw new RangeError(`A piece of ${vector.pieceSizeMax} bytes is over ${disk.segmentSizeMax}`);
  } else if (!(Number.isInteger(offset) && offset! >= 0 && offset! + size <= region!.size)) {
    throw new RangeError(`${offset} and ${size} are not inside a region of ${region!.size} bytes`);
  }
  refuseRest(token, flags);
}

export interface RefusedRange {
  readonly what: string;
  readonly position?: number;
  readonly size?: number;
  readonly sizeMax?: number;
  readonly token: number;
  readonly flags: number;
}

/** Throws `RangeError`. */
export function refuseRange(disk: DiskState, { position, size, sizeMax, token, flags }: RefusedRange): never {
  if (position !== undefined) refusePlace(disk, position, size!, sizeMax! || Infinity);
  refuseRest(token, flags);
}

function refusePlace(disk: DiskState, position: number, size: number, sizeMax: number): void {
  const alignment = disk.alignmentMask + 1;
  if (!(size > 0) || size % alignment !== 0 || size > sizeMax)
    throw new RangeError(`Size ${size} is not from ${alignment} to ${sizeMax} in steps of ${alignment}`);
  if (!(position >= 0) || position % alignment !== 0)
    throw new RangeError(`Position ${position} is not a multiple of ${alignment}`);
  if (position + size > disk.capacity)
    throw new RangeError(`${size} bytes at ${position} are not inside ${disk.capacity} bytes`);
}

function refuseRest(token: number, flags: number): never {
  if (!(Number.isSafeInteger(token) && token >= 0))
    throw new RangeError(`Token ${token} is not a safe integer from 0 on`);
  throw new RangeError(`Flags ${flags} have no meaning for this request`);
}
