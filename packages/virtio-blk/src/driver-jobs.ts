import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_T_OUT } from '@virtlab/abi/virtio-blk';
import type { AioContext, BottomHalf } from '@virtlab/aio';
import type { DmaMapper } from '@virtlab/guest-memory';
import { ADD_NO_ADDRESS } from '@virtlab/vring';
import type { RequestEngine } from './driver-engine.ts';
import { BlkError, completionError } from './errors.ts';

/** What a caller of the promise interface asked for; takes as many requests as the limits make of it. */
interface Job {
  /** For messages: `read of sector 8`. */
  readonly what: string;
  readonly type: number;
  readonly sector: number;
  /** The caller's bytes, or undefined for requests without data. */
  readonly bytes: Uint8Array | undefined;
  /** Bytes, or sectors of a range; and how much of it one request takes. */
  readonly size: number;
  readonly chunkSize: number;
  readonly flags: number;
  /** Not yet submitted from here on. */
  next: number;
  pendingCount: number;
  error: Error | undefined;
  readonly promise: PromiseWithResolvers<void>;
}

/** One request of a job, by slot. */
interface Chunk {
  job: Job | undefined;
  bounce: number;
  at: number;
  size: number;
}

export interface JobQueueOptions {
  readonly dma: DmaMapper;
  readonly aio: AioContext;
  /** Bytes of one bounce buffer, a whole number of pages, and how many there are. */
  readonly bounceSize: number;
  readonly bounceCount: number;
}

const NO_BOUNCE = -1;

/**
 * The promise face of the data plane: callers' bytes travel through a fixed pool of bounce buffers, since only the
 * driver's own memory can be lent. Jobs wait their turn when slots, ring entries or bounce buffers run out. What is
 * asked for within one turn of the loop is kicked together.
 *
 * Requests of one job, and jobs after one another, are in flight at the same time and complete in any order.
 */
export class JobQueue {
  readonly #options: JobQueueOptions;
  readonly #engine: RequestEngine;
  readonly #kickLater: BottomHalf;
  readonly #waiting: Job[] = [];
  readonly #chunks: Chunk[];
  #pool: number | undefined;
  readonly #freeBounces: number[] = [];

  constructor(engine: RequestEngine, options: JobQueueOptions) {
    this.#options = options;
    this.#engine = engine;
    this.#kickLater = options.aio.createBottomHalf(() => engine.kick());
    this.#chunks = Array.from({ length: engine.capacity }, () => ({
      job: undefined,
      bounce: NO_BOUNCE,
      at: 0,
      size: 0,
    }));
  }

  /** Sectors or an id to or from the caller's bytes, which are read or written until the promise settles. */
  transfer(what: string, type: number, sector: number, bytes: Uint8Array): Promise<void> {
    return this.#enqueue(what, type, sector, bytes, bytes.length, this.#options.bounceSize, 0);
  }

  flush(what: string, type: number): Promise<void> {
    return this.#enqueue(what, type, 0, undefined, 0, 1, 0);
  }

  /** Discard or write zeroes. */
  ranges(
    what: string,
    type: number,
    sector: number,
    count: number,
    countMax: number,
    flags: number,
  ): Promise<void> {
    return this.#enqueue(what, type, sector, undefined, count, countMax, flags);
  }

  /** One of the requests ended; see `EngineOptions.onInternal`. */
  ended(slot: number, completion: number): void {
    const chunk = this.#chunks[slot]!;
    const job = chunk.job!;
    const { at, size, bounce } = chunk;
    chunk.job = undefined;
    if (completion !== VIRTIO_BLK_S_OK) {
      job.error ??= completionError(job.what, completion, this.#engine.failure);
    } else if (job.bytes !== undefined && job.type !== VIRTIO_BLK_T_OUT) {
      const { u8 } = this.#options.dma.memory;
      const from = this.#pool! + bounce * this.#options.bounceSize;
      job.bytes.set(u8.subarray(from, from + size), at);
    }
    if (bounce !== NO_BOUNCE) this.#freeBounces.push(bounce);
    job.pendingCount -= 1;
    if (job.pendingCount === 0) this.#settleIfDone(job);
  }

  /** Submits what there is room for, without a kick; once the engine has failed, rejects what waits. */
  pump(): void {
    for (let job = this.#waiting[0]; job !== undefined; job = this.#waiting[0]) {
      if (!this.#submitChunks(job)) return;
      this.#waiting.shift();
      if (job.pendingCount === 0) this.#settleIfDone(job);
    }
  }

  /** No kicks any more. The engine has failed, so every job has settled. */
  stop(): void {
    this.#kickLater[Symbol.dispose]();
  }

  /** Only after the device was reset. */
  release(): void {
    const { dma, bounceSize, bounceCount } = this.#options;
    if (this.#pool !== undefined) dma.free(this.#pool, bounceSize * bounceCount);
    this.#pool = undefined;
  }

  #enqueue(
    what: string,
    type: number,
    sector: number,
    bytes: Uint8Array | undefined,
    size: number,
    chunkSize: number,
    flags: number,
  ): Promise<void> {
    const promise = Promise.withResolvers<void>();
    if (bytes !== undefined) this.#ensurePool();
    this.#waiting.push({
      what,
      type,
      sector,
      bytes,
      size,
      chunkSize,
      flags,
      next: 0,
      pendingCount: 0,
      error: undefined,
      promise,
    });
    this.pump();
    if (this.#engine.failure === undefined) this.#kickLater.schedule();
    return promise.promise;
  }

  /** True when all of the job is submitted, or it failed and need not be. */
  #submitChunks(job: Job): boolean {
    do {
      if (job.error !== undefined) return true;
      const size = Math.min(job.size - job.next, job.chunkSize);
      const bounce = job.bytes === undefined ? NO_BOUNCE : this.#freeBounces.pop();
      if (bounce === undefined) return false;
      const slot = this.#submitChunk(job, size, bounce);
      if (slot < 0) {
        if (bounce !== NO_BOUNCE) this.#freeBounces.push(bounce);
        if (this.#engine.inFlightCount > 0) return false;
        job.error = refused(job.what, slot, this.#engine.failure);
        return true;
      }
      const chunk = this.#chunks[slot]!;
      chunk.job = job;
      chunk.bounce = bounce;
      chunk.at = job.next;
      chunk.size = size;
      job.next += size;
      job.pendingCount += 1;
    } while (job.next < job.size);
    return true;
  }

  #submitChunk(job: Job, size: number, bounce: number): number {
    const engine = this.#engine;
    const { bytes, type, next } = job;
    if (bytes === undefined) {
      if (job.size === 0) return engine.submit(type, 0, 0, 0, 0, true);
      return engine.submitRange(type, job.sector + next, size, job.flags, 0, true);
    }
    const offset = this.#pool! + bounce * this.#options.bounceSize;
    if (type === VIRTIO_BLK_T_OUT) {
      this.#options.dma.memory.u8.set(bytes.subarray(next, next + size), offset);
    }
    return engine.submit(type, job.sector + next / VIRTIO_BLK_SECTOR_SIZE, offset, size, 0, true);
  }

  #settleIfDone(job: Job): void {
    if (job.error !== undefined) job.promise.reject(job.error);
    else if (job.next >= job.size) job.promise.resolve();
  }

  #ensurePool(): void {
    if (this.#pool !== undefined) return;
    const { dma, bounceSize, bounceCount } = this.#options;
    this.#pool = dma.allocate(bounceSize * bounceCount);
    for (let bounce = bounceCount - 1; bounce >= 0; bounce -= 1) this.#freeBounces.push(bounce);
  }
}

function refused(what: string, result: number, failure: string | undefined): BlkError {
  if (failure !== undefined) return new BlkError('ENODEV', `${what} failed: ${failure}`);
  if (result === ADD_NO_ADDRESS) return new BlkError('ENOSPC', `${what}: no device address for its buffers`);
  return new BlkError('ENODEV', `${what}: the queue is broken`);
}
