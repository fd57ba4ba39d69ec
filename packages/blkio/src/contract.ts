import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';

/**
 * Request flags, with libblkio's values; a request takes those that are said to be its own, and `RangeError` is for all others. `write`,
 * `writev`, `writeZeroes`: durable once it completed. `read`, `readv`, `flush` and `discard` take no flag.
 */
export const BLKIO_REQ_FUA = 1;
/** `writeZeroes`: without giving the space back. */
export const BLKIO_REQ_NO_UNMAP = 2;
/** `writeZeroes`: fail with `-ENOTSUP` rather than write zeroes as data. */
export const BLKIO_REQ_NO_FALLBACK = 4;

/** Results of the batch face's requests below zero: no room until something completes and is taken; never again. */
export const BLKIO_FULL = -1;
export const BLKIO_BROKEN = -2;

export interface BlkioOptions {
  /** The loop that completions are noticed in, unless they are polled for, and whose clock deadlines follow. */
  readonly aio: AioContext;
  /** Queues to use; fewer if the device has fewer. Default 1. */
  readonly queueCount?: number;
  /** Entries of each queue at most. A power of two. Default 256. */
  readonly queueSize?: number;
  /** Requests in flight on each queue at most. Default: the queue's entries. */
  readonly queueDepth?: number;
  /** For each request and each step of the control plane. Default 30,000. */
  readonly timeoutMs?: number;
  /** Which ring features to accept where offered. Default `RING_FEATURES`. */
  readonly ringFeatures?: FeatureBits;
}

/** What the disk and its queues allow, in bytes unless it says otherwise; after `blkio_get_*` of the same names. */
export interface BlkioLimits {
  readonly requestAlignment: number;
  readonly optimalIoSize: number;
  readonly transferSizeMax: number;
  readonly segmentCountMax: number;
  readonly segmentSizeMax: number;
  /** 0: the disk has no such request. */
  readonly discardSizeMax: number;
  readonly discardAlignment: number;
  readonly writeZeroesSizeMax: number;
  /** Regions of the caller's own memory that can be mapped beside each other; 0 where the transport cannot do it. */
  readonly mappedRegionCountMax: number;
}

/**
 * Memory that the device can reach until `Symbol.dispose`, by which time no request may use it; once the disk has failed, until `close`
 * has reset the device, whenever it was disposed of.
 */
export interface BlkioRegion extends Disposable {
  readonly memory: MemoryRegion;
  /** Where it begins in `memory`; page aligned. */
  readonly offset: number;
  readonly size: number;
  /** Its bytes. */
  readonly bytes: Uint8Array;
}

/** Pieces of regions for `readv` and `writev`, in a struct that is filled again and again. */
export interface BlkioVector {
  readonly count: number;
  clear(): void;
  /** `[offset, offset + size)` of the region. Throws `RangeError` outside it, `TypeError` for a region that was given back. */
  add(region: BlkioRegion, offset: number, size: number): void;
}

/** Made once by `createCompletions`, filled by `poll`: the first `count` entries count. */
export interface BlkioCompletions {
  count: number;
  readonly tokens: Float64Array;
  /** 0, or a negative errno: `-EIO`, `-ENOTSUP`, `-EROFS`, `-ENODEV`, `-ETIMEDOUT`, `-ECANCELED`, `-EPROTO`. */
  readonly results: Int32Array;
}

/**
 * One queue: one submitter. Requests in flight complete in any order. Positions and sizes are bytes, whole multiples of
 * `requestAlignment`. `token` is any safe integer from 0 on.
 *
 * Three faces over the same ring; a token completes at the face that submitted it:
 * - batch: `read` … `flush` stage, `submit` shows the device all that was staged with one publication and at most one
 *   doorbell, `poll` takes completions, without the loop, allocating nothing;
 * - `promises`: each request a promise, submitted at the end of the turn;
 * - `completions()`: batches of completions as they come, for `for await`.
 */
export interface BlkioQueue {
  readonly index: number;
  readonly depth: number;
  readonly inFlightCount: number;
  readonly statistics: BlkioQueueStatistics;

  /**
   * 0; or `BLKIO_FULL` (submit, poll, try again), or `BLKIO_BROKEN` (never again, see `Blkio.failure`). Misuse throws: `RangeError`
   * (alignment, a limit, a range beyond the region or the disk's end, a token, a flag that is not the request's), `TypeError` (a region
   * that was given back or is another disk's, a vector of somebody else's). What this disk does not do completes with `-ENOTSUP`.
   */
  read(
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    token: number,
    flags?: number,
  ): number;
  write(
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    token: number,
    flags?: number,
  ): number;
  readv(position: number, vector: BlkioVector, token: number, flags?: number): number;
  writev(position: number, vector: BlkioVector, token: number, flags?: number): number;
  flush(token: number, flags?: number): number;
  discard(position: number, size: number, token: number, flags?: number): number;
  writeZeroes(position: number, size: number, token: number, flags?: number): number;
  submit(): void;
  /** Takes what is complete, at most `into.tokens.length`; answers how many. Never blocks. */
  poll(into: BlkioCompletions): number;
  /**
   * libblkio's `do_io`: submits, then takes completions until there are `countMin`, looking all the time, at most `timeoutMs`.
   * Answers how many there are. For a thread that has nothing else to do. Throws `RangeError` when `countMin` is more than there are in
   * flight, or than `into` has places for: it would never come to that.
   */
  pollUntil(into: BlkioCompletions, countMin: number, timeoutMs: number): number;
  /** Completions of the batch face as they come; ends with the disk. One consumer, and not beside `poll`. */
  completions(): AsyncIterableIterator<BlkioCompletions>;
  readonly promises: BlkioPromises;
}

/** Reject with `BlkioError`, or with `RangeError` or `TypeError` for a misuse. Wait for room by themselves. */
export interface BlkioPromises {
  read(position: number, region: BlkioRegion, offset: number, size: number, flags?: number): Promise<void>;
  write(position: number, region: BlkioRegion, offset: number, size: number, flags?: number): Promise<void>;
  readv(position: number, vector: BlkioVector, flags?: number): Promise<void>;
  writev(position: number, vector: BlkioVector, flags?: number): Promise<void>;
  flush(): Promise<void>;
  discard(position: number, size: number, flags?: number): Promise<void>;
  writeZeroes(position: number, size: number, flags?: number): Promise<void>;
}

export interface BlkioQueueStatistics {
  readonly requests: number;
  readonly completions: number;
  readonly failures: number;
  readonly kicks: number;
  readonly kicksSuppressed: number;
  readonly calls: number;
}

/** A disk, whatever its transport: made by `openBlkio(link, options)`, the link being of vhost-user, PCI or xenbus. */
export interface Blkio extends AsyncDisposable {
  /** Bytes; follows the device. */
  readonly capacity: number;
  onCapacityChange(handler: ((capacity: number) => void) | undefined): void;
  readonly readOnly: boolean;
  readonly needsFlush: boolean;
  readonly features: FeatureBits;
  readonly limits: BlkioLimits;
  readonly queues: readonly BlkioQueue[];
  /** Why nothing is accepted any more. */
  readonly failure: string | undefined;
  /**
   * Zeroed memory of the link. Throws `RangeError` for a size that is not positive, `DmaError` when there is none left, and `BlkioError`
   * `ENODEV` once the disk was closed or failed.
   */
  allocateRegion(size: number): BlkioRegion;
  /**
   * The caller's own memory, `[offset, offset + size)` of a descriptor that cannot shrink (a sealed memfd), page aligned: what is
   * read lies there without a copy. The descriptor may be closed afterwards. Rejects with `BlkioError`: `ENOTSUP` where the transport
   * cannot do it, `EINVAL` for memory that can shrink, is shorter, or cannot be mapped, `ENOSPC` when `mappedRegionCountMax` are mapped,
   * `ENODEV`, and what else the device answered, the `TransportError` being the cause; and with `RangeError` for an `offset` or `size`
   * that is not a multiple of the page size.
   */
  mapRegion(fd: number, offset: number, size: number): Promise<BlkioRegion>;
  /** Fails what is in flight with `-ENODEV`, resets the device, takes the memory back. The link stays the caller's. */
  close(): Promise<void>;
}
