import { constants } from 'node:os';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP } from '@virtlab/abi/virtio-blk';
import { TransportError } from '@virtlab/virtio';

/**
 * `EIO`, `ENOTSUP`: the device said so, or the disk has no such request. `EROFS`: the disk is read-only. `ENODEV`: the device is gone,
 * broke its queue, or the disk was closed; `ECANCELED`: likewise, and the device was never shown the request. `ETIMEDOUT`: not
 * completed in time. `EPROTO`: the device left a status that does not exist. Of `mapRegion`, also: `EINVAL`: a descriptor that cannot be
 * mapped; `ENOSPC`: as many regions are mapped as can be.
 */
export type BlkioErrorCode =
  | 'EIO'
  | 'ENOTSUP'
  | 'EROFS'
  | 'ENODEV'
  | 'ECANCELED'
  | 'ETIMEDOUT'
  | 'EPROTO'
  | 'EINVAL'
  | 'ENOSPC';

export const RESULT_EIO: number = -constants.errno.EIO;
export const RESULT_ENOTSUP: number = -constants.errno.ENOTSUP;
export const RESULT_EROFS: number = -constants.errno.EROFS;
export const RESULT_ENODEV: number = -constants.errno.ENODEV;
export const RESULT_ECANCELED: number = -constants.errno.ECANCELED;
export const RESULT_ETIMEDOUT: number = -constants.errno.ETIMEDOUT;
export const RESULT_EPROTO: number = -constants.errno.EPROTO;

const CODES: ReadonlyMap<number, BlkioErrorCode> = new Map([
  [RESULT_EIO, 'EIO'],
  [RESULT_ENOTSUP, 'ENOTSUP'],
  [RESULT_EROFS, 'EROFS'],
  [RESULT_ENODEV, 'ENODEV'],
  [RESULT_ECANCELED, 'ECANCELED'],
  [RESULT_ETIMEDOUT, 'ETIMEDOUT'],
  [RESULT_EPROTO, 'EPROTO'],
]);

/** A request that failed, or a disk that cannot be had. */
export class BlkioError extends Error {
  readonly code: BlkioErrorCode;

  constructor(code: BlkioErrorCode, message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'BlkioError';
    this.code = code;
  }
}

/** The error for a result below zero; `detail` says what the device is accused of, if anything. */
export function resultError(what: string, result: number, detail: string | undefined): BlkioError {
  const why = detail === undefined ? '' : `: ${detail}`;
  return new BlkioError(CODES.get(result) ?? 'EPROTO', `${what} failed${why}`);
}

/** Throws what `mapRegion` rejects with: a link's `TransportError` as a `BlkioError` of its code, with the cause; a misuse as it is. */
export function refuseMapping(error: unknown): never {
  if (!(error instanceof TransportError)) throw error;
  const message = error.message.slice(`${error.code}: `.length);
  throw new BlkioError(error.code, message, { cause: error });
}

/** What a status byte (§5.2.6) means. No zoned status exists, since VIRTIO_BLK_F_ZONED is not accepted. */
export function resultOfStatus(status: number): number {
  if (status === VIRTIO_BLK_S_OK) return 0;
  if (status === VIRTIO_BLK_S_IOERR) return RESULT_EIO;
  return status === VIRTIO_BLK_S_UNSUPP ? RESULT_ENOTSUP : RESULT_EPROTO;
}
