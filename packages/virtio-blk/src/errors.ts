import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
} from '@virtlab/abi/virtio-blk';

/**
 * Ends of a request that the device did not report; below zero, so that they are never a `VIRTIO_BLK_S_*`.
 * The device is gone, needs reset, broke its queue, or the driver was closed.
 */
export const COMPLETION_ENODEV = -1;
/** The device did not complete the request in time. It counts as failed, and so does everything in flight with it. */
export const COMPLETION_ETIMEDOUT = -2;
/** The device completed the request and left no status that exists (§5.2.6). */
export const COMPLETION_EPROTO = -3;
/** The request's queue was reset (`resetQueue`); whether the request was carried out is unknown. */
export const COMPLETION_ECANCELED = -4;

/**
 * `IOERR`, `UNSUPP`, `ZONE_…`: the device said so. `ENODEV`, `ETIMEDOUT`, `EPROTO`, `ECANCELED`: as the `COMPLETION_*`
 * above; `EPROTO` also for a configuration or a zone report that makes no sense. `EROFS`: the disk is read-only. `ERANGE`: not inside the disk.
 * `ENOSPC`: no device address could be had for the buffers although nothing is in flight.
 */
export type BlkErrorCode =
  | 'IOERR'
  | 'UNSUPP'
  | 'ZONE_INVALID_CMD'
  | 'ZONE_UNALIGNED_WP'
  | 'ZONE_OPEN_RESOURCE'
  | 'ZONE_ACTIVE_RESOURCE'
  | 'ENODEV'
  | 'ETIMEDOUT'
  | 'EPROTO'
  | 'ECANCELED'
  | 'EROFS'
  | 'ERANGE'
  | 'ENOSPC';

/** A block request that failed, or a device that cannot be driven. */
export class BlkError extends Error {
  readonly code: BlkErrorCode;

  constructor(code: BlkErrorCode, message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'BlkError';
    this.code = code;
  }
}

/** The error for a completion that is not OK; `detail` says what the device is accused of, if anything. */
export function completionError(what: string, completion: number, detail: string | undefined): BlkError {
  const code = completionCode(completion);
  return new BlkError(code, detail === undefined ? `${what} failed` : `${what} failed: ${detail}`);
}

const CODES: ReadonlyMap<number, BlkErrorCode> = new Map([
  [VIRTIO_BLK_S_IOERR, 'IOERR'],
  [VIRTIO_BLK_S_UNSUPP, 'UNSUPP'],
  [VIRTIO_BLK_S_ZONE_INVALID_CMD, 'ZONE_INVALID_CMD'],
  [VIRTIO_BLK_S_ZONE_UNALIGNED_WP, 'ZONE_UNALIGNED_WP'],
  [VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, 'ZONE_OPEN_RESOURCE'],
  [VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, 'ZONE_ACTIVE_RESOURCE'],
  [COMPLETION_ENODEV, 'ENODEV'],
  [COMPLETION_ETIMEDOUT, 'ETIMEDOUT'],
  [COMPLETION_ECANCELED, 'ECANCELED'],
]);

function completionCode(completion: number): BlkErrorCode {
  return CODES.get(completion) ?? 'EPROTO';
}
