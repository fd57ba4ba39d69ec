import type { FeatureBits } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { BlkLifetime } from './backend.ts';
import type { BlkQueueStatistics } from './driver-queue.ts';
import type { BlkZones } from './driver-zones.ts';
import type { BlkGeometry, BlkTopology } from './disk-shape.ts';

/** Counters since creation. */
export interface BlkDriverStatistics {
  readonly requests: number;
  readonly completions: number;
  /** Completions other than OK. */
  readonly failures: number;
  /** Successful requests for which the device claimed to have written less than they need. */
  readonly shortCompletions: number;
  /** Doorbells sent, and publications that needed none; calls received, and completions found by polling. */
  readonly kicks: number;
  readonly kicksSuppressed: number;
  readonly calls: number;
  readonly polls: number;
}

/**
 * A disk. Two interfaces over the same requests, which may be mixed:
 *
 * - Promises over the caller's bytes (`read`, `write`, …), copied through memory of the driver and cut to the device's
 *   limits. They reject with `BlkError`, or with `RangeError` for sizes that are no whole number of sectors.
 * - The data plane over buffers of the driver's memory (`allocateBuffer`, `submitRead`, …, `kick`), which copies and
 *   allocates nothing and reports to one callback.
 *
 * Requests in flight complete in any order. A write is durable after a flush that was asked for when the write had
 * completed.
 */
export interface BlkDriver extends AsyncDisposable {
  /** Sectors of 512 bytes; follows the device when that grows or shrinks. */
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  /** Bytes; a device may refuse requests that are not aligned to it. */
  readonly blockSize: number;
  readonly features: FeatureBits;
  /** Bytes of one data-plane request. */
  readonly transferSizeMax: number;
  /** Requests in flight at most, and now. */
  readonly queueDepth: number;
  readonly inFlightCount: number;
  /** Why nothing is accepted any more: device gone, broken, overdue, or driver closed. */
  readonly failure: string | undefined;
  readonly statistics: BlkDriverStatistics;
  /** By queue. */
  readonly queueStatistics: readonly BlkQueueStatistics[];
  /** What the device says of itself, for whom it may concern; undefined where it does not. */
  readonly geometry: BlkGeometry | undefined;
  readonly topology: BlkTopology | undefined;
  /** A write is durable when it completes (§5.2.6.2), and a flush has nothing to add; see `setWriteback`. */
  readonly isWriteThrough: boolean;
  /** The zones of a zoned disk; undefined for any other, and for a drive-managed one. */
  readonly zones: BlkZones | undefined;

  /** Fills `target`, a whole number of sectors, which is written to until the promise settles. */
  read(sector: number, target: Uint8Array): Promise<void>;
  /** Takes `source`, a whole number of sectors, which must not change until the promise settles. */
  write(sector: number, source: Uint8Array): Promise<void>;
  /** Makes durable what completed before. Without VIRTIO_BLK_F_FLUSH there is nothing to do (§5.2.6.2). */
  flush(): Promise<void>;
  discard(sector: number, count: number): Promise<void>;
  /** `unmap` (default true) allows the device to give the space back. */
  writeZeroes(sector: number, count: number, options?: { readonly unmap?: boolean }): Promise<void>;
  /** As discard, and nothing can be recovered. On a zoned disk a range of whole zones, which are empty then. */
  secureErase(sector: number, count: number): Promise<void>;
  /** Wear of the storage; `UNSUPP` where the device knows nothing of it. */
  getLifetime(): Promise<BlkLifetime>;
  /**
   * Switches the device's cache mode (§5.2.5, VIRTIO_BLK_F_CONFIG_WCE); resolves to the mode that it has then. Writes that
   * were in flight may be either. Switching to writethrough does not make durable what was written before: flush first.
   */
  setWriteback(writeback: boolean): Promise<boolean>;
  /** At most one handler: `capacitySectors` changed. */
  onCapacityChange(handler: ((capacitySectors: number) => void) | undefined): void;
  /**
   * Resets one queue alone (§2.6.1), with `size` entries or as many as before. Requests on it end with `ECANCELED` or
   * `COMPLETION_ECANCELED`; other queues go on. Until it is over, promises for which there is no other queue wait, and `submit…` answers
   * `ADD_FULL`. Rejects with `TransportError` `ENOTSUP` where VIRTIO_F_RING_RESET was not negotiated, and with `TypeError` when
   * the queue is being reset already; nothing happened then.
   */
  resetQueue(queue: number, size?: number): Promise<void>;
  /** The device's serial; at most 20 characters, up to the first NUL. What it says is not checked. */
  getId(): Promise<string>;

  /** The memory that buffers lie in. */
  readonly memory: MemoryRegion;
  /**
   * Offset in `memory` of `size` bytes, page aligned, freed by `freeBuffer` or `close`. Throws `DmaError`, and `BlkError` `ENODEV`
   * once the disk has failed or was closed.
   */
  allocateBuffer(size: number): number;
  /**
   * Only when no request uses it. Once the disk has failed the device may still write to any of them, so nothing is freed before
   * `close` has reset it.
   */
  freeBuffer(offset: number): void;
  /**
   * At most one handler: the request's token, and `VIRTIO_BLK_S_*` or a negative `COMPLETION_*`. It runs in the loop and
   * must not throw. It may submit; that is kicked at the end of the batch without being asked.
   */
  onCompletion(handler: ((token: number, completion: number) => void) | undefined): void;
  /**
   * Stages a request over `memory[bufferOffset, bufferOffset + size)`; the device sees it after `kick`. `token` is any
   * integer from 0 to 2^31 - 1. `queue` keeps the requests of one submitter in the order in which they are submitted;
   * default the least loaded, or on a zoned disk one for each zone, since writes to a zone must arrive in order. Returns 0, or `ADD_FULL` (try again after a completion), `ADD_NO_ADDRESS` (likewise) or
   * `ADD_BROKEN` (never). Throws `RangeError` for a misuse and `BlkError` `EROFS`, `UNSUPP`.
   */
  submitRead(sector: number, bufferOffset: number, size: number, token: number, queue?: number): number;
  submitWrite(sector: number, bufferOffset: number, size: number, token: number, queue?: number): number;
  submitFlush(token: number, queue?: number): number;
  /** To the zone that starts at `sector`, at most `zones.maxAppendSectors`; see `appendSector`. */
  submitAppend(sector: number, bufferOffset: number, size: number, token: number): number;
  /** Where the append went whose completion is being reported, as the device says; meaningful in the handler only. */
  readonly appendSector: number;
  /** Shows the device all that was staged, with one publication and at most one doorbell a queue. */
  kick(): void;
  /** Completes what the device has finished, for code that waits without the loop. Answers whether there was anything. */
  poll(): boolean;

  /**
   * Fails what is in flight (`ENODEV`), resets the device, takes all memory back. Idempotent. Rejects with
   * `TransportError` when the device did not confirm the reset; the memory then stays lent for good.
   */
  close(): Promise<void>;
}
