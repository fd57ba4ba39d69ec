import type { MemoryRegion } from '@virtlab/guest-memory';
import type { BlockVector } from './block-vector.ts';
import type { BlockZones } from './zone-contract.ts';

/**
 * An operation was accepted and `onComplete` will report it. Every other value that an operation returns is the
 * request status that ends it (`VIRTIO_BLK_S_OK`, `VIRTIO_BLK_S_IOERR`, `VIRTIO_BLK_S_UNSUPP`; VIRTIO §5.2.6).
 */
export const BACKEND_PENDING = -1;

/** Told when a pending operation ended, with the token it was given and a `VIRTIO_BLK_S_*` status. */
export type BackendCompletion = (token: number, status: number) => void;

/**
 * Where a block device keeps its sectors. It works on guest memory in place: one call for one contiguous piece of it,
 * so a request of several segments is several operations under the same token.
 *
 * The caller has checked that `[position, position + size)` lies inside the capacity, that `region` holds
 * `[offset, offset + size)`, and that nothing but reads is asked of a read-only backend. Sizes and positions are bytes
 * and multiples of 512 in sum over a request, though a single piece need not be.
 *
 * An operation either ends at once, by returning a status, or returns `BACKEND_PENDING` and ends by `onComplete`, once.
 * `onComplete` never runs inside an operation or inside `submit`. Pending operations end in any order. Until it ends, an
 * operation may touch its piece of guest memory; afterwards it must not.
 *
 * The device owns neither the backend nor its file: whoever made it closes it, after the device was reset.
 */
export interface BlockBackend {
  /** Sectors of 512 bytes; fixed for the backend's life unless it has `onCapacityChange`. */
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  /** Space can be given back: discard, or write zeroes with `unmap`, may deallocate. Default true. */
  readonly mayUnmap?: boolean;
  /** The disk is zoned: each read and write was admitted by it before it gets here. */
  readonly zones?: BlockZones;
  /** Bytes; a power of two, at least 512. What the driver is told as `blk_size`; smaller accesses work. */
  readonly blockSize: number;

  /** At most one party listens; undefined stops listening, which is right only when nothing is pending. */
  onComplete(completion: BackendCompletion | undefined): void;

  /** Storage to guest memory. */
  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number;
  /** Guest memory to storage. Durable only after a flush that was started when the write had ended. */
  write(region: MemoryRegion, offset: number, size: number, position: number, token: number): number;
  /** Makes every write durable that ended before this call. It ends only after that is so. */
  flush(token: number): number;
  /** The content of the range is no longer needed; what it reads as afterwards is unspecified, but is old data or zero. */
  discard(position: number, size: number, token: number): number;
  /** The range reads as zero afterwards. `unmap` allows to give the space back. */
  writeZeroes(position: number, size: number, unmap: boolean, token: number): number;

  /**
   * Several pieces of guest memory, one range of storage: as `read` and `write`. The vector is the caller's and changes after
   * the call. A backend that has both gets requests that are adjacent on the disk as one operation.
   */
  readVector?(vector: BlockVector, position: number, token: number): number;
  writeVector?(vector: BlockVector, position: number, token: number): number;
  /** As `discard`, but nothing of the content can be recovered afterwards. A backend without it offers no secure erase. */
  secureErase?(position: number, size: number, token: number): number;
  /** Wear of the storage, in the values of §5.2.6. A backend that knows nothing of it does not have it. */
  lifetime?(): BlkLifetime;
  /** Told when `capacitySectors` changed. At most one party listens. */
  onCapacityChange?(listener: (() => void) | undefined): void;

  /** End of a batch: operations that were held back to be done together start now. */
  submit(): void;

  /** Ends when pending operations have ended and everything is given back. Does not flush. */
  close(): Promise<void>;
}

/** §5.2.6, struct virtio_blk_lifetime. */
export interface BlkLifetime {
  /** `VIRTIO_BLK_PRE_EOL_INFO_*`. */
  readonly preEolInfo: number;
  /** Wear of SLC and of MLC cells in tenths, rounded up: 1 to 10, 11 when exceeded, 0 when unknown. */
  readonly typeA: number;
  readonly typeB: number;
}

/** Why a backend could not be opened; also what the `onError` callback of a backend is given. */
export class BlkBackendError extends Error {
  /** The errno's name, e.g. `ENOENT`. */
  readonly code: string;
  /** What was being done: `open`, `read`, `write`, `flush`, … */
  readonly operation: string;
  /** The image's name as it was given; undefined for memory. */
  readonly path: string | undefined;

  constructor(
    code: string,
    operation: string,
    path: string | undefined,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`${code}: ${message}`, options);
    this.name = 'BlkBackendError';
    this.code = code;
    this.operation = operation;
    this.path = path;
  }
}

/** @throws RangeError if `blockSize` is not a power of two from 512 to 64 KiB or does not divide into whole sectors */
export function requireBlockSize(blockSize: number, sectorSize: number): number {
  const fits = Number.isInteger(blockSize) && blockSize >= sectorSize && blockSize <= 0x1_0000;
  if (!fits || (blockSize & (blockSize - 1)) !== 0) {
    throw new RangeError(`block size ${blockSize} is not a power of two from ${sectorSize} to 65536`);
  }
  return blockSize;
}
