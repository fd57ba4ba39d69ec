import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { AioContext, BottomHalf } from '@virtlab/aio';
import type { DmaMapper } from '@virtlab/guest-memory';
import { ADD_NO_ADDRESS } from '@virtlab/vring';
import type { RangeLimit } from './driver-config.ts';
import { ANY_QUEUE, type RequestEngine, givesData } from './driver-engine.ts';
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
  /** Where one request ends and the next begins, if it is not the last: a multiple of so many sectors, for ranges. */
  readonly alignmentSectors: number;
  /** All requests go there, so that they arrive in order; or `ANY_QUEUE`. */
  readonly queue: number;
  /** Not yet submitted from here on. */
  next: number;
  pendingCount: number;
  error: Error | undefined;
  /** Where an append went. */
  appendSector: number;
  readonly promise: PromiseWithResolvers<void>;
}

/** What `enqueue` does not need to be told. */
type JobPlan = Pick<Job, 'what' | 'type' | 'sector' | 'bytes' | 'size' | 'chunkSize'> &
  Partial<Pick<Job, 'flags' | 'alignmentSectors' | 'queue'>>;

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
 * driver's own memory can be lent. Jobs wait their turn when slots, ring entries or bounce buffers run out, or while a
 * queue is being reset. What is asked for within one turn of the loop is kicked together.
 *
 * Requests of one job, and jobs after one another, are in flight at the same time and complete in any order.
 *
 * Once the engine has failed, nothing is written into a bounce buffer: until the device was reset it may still read what a
 * request that was given up has in there, and afterwards the pool is not ours.
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

  /** Bytes of one request at most. */
  get chunkSizeMax(): number {
    return this.#options.bounceSize;
  }

  /**
   * Data to or from the caller's bytes, which are read or written until the promise settles. Cut into requests on `queue` as
   * the limits want it.
   */
  async transfer(
    what: string,
    type: number,
    sector: number,
    bytes: Uint8Array,
    queue: number = ANY_QUEUE,
  ): Promise<void> {
    const chunkSize = this.#options.bounceSize;
    await this.#enqueue({ what, type, sector, bytes, size: bytes.length, chunkSize, queue });
  }

  /** One append; the sector that it went to. */
  async append(what: string, type: number, sector: number, bytes: Uint8Array): Promise<number> {
    const job = await this.#enqueue({
      what,
      type,
      sector,
      bytes,
      size: bytes.length,
      chunkSize: bytes.length,
    });
    return job.appendSector;
  }

  /** A request of nothing but a header. */
  async command(what: string, type: number, sector: number, queue: number = ANY_QUEUE): Promise<void> {
    await this.#enqueue({ what, type, sector, bytes: undefined, size: 0, chunkSize: 1, queue });
  }

  /** Discard, write zeroes, secure erase. Requests end where the device's alignment wants it. */
  async ranges(
    what: string,
    type: number,
    sector: number,
    count: number,
    { sectorsMax, alignmentSectors }: RangeLimit,
    flags: number,
  ): Promise<void> {
    const bytes = undefined;
    await this.#enqueue({
      what,
      type,
      sector,
      bytes,
      size: count,
      chunkSize: sectorsMax,
      flags,
      alignmentSectors,
    });
  }

  /** One of the requests ended; see `EngineOptions.onInternal`. */
  ended(slot: number, completion: number): void {
    const chunk = this.#chunks[slot]!;
    const job = chunk.job!;
    const { at, size, bounce } = chunk;
    chunk.job = undefined;
    if (completion !== VIRTIO_BLK_S_OK) {
      job.error ??= completionError(job.what, completion, this.#engine.failure);
    } else if (job.bytes !== undefined && givesData(job.type)) {
      const { u8 } = this.#options.dma.memory;
      const from = this.#pool! + bounce * this.#options.bounceSize;
      job.bytes.set(u8.subarray(from, from + size), at);
    }
    job.appendSector = this.#engine.appendSector;
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

  async #enqueue(plan: JobPlan): Promise<Job> {
    const job: Job = {
      flags: 0,
      alignmentSectors: 1,
      queue: ANY_QUEUE,
      ...plan,
      next: 0,
      pendingCount: 0,
      error: undefined,
      appendSector: 0,
      promise: Promise.withResolvers<void>(),
    };
    if (job.bytes !== undefined && this.#engine.failure === undefined) this.#ensurePool();
    this.#waiting.push(job);
    this.pump();
    if (this.#engine.failure === undefined) this.#kickLater.schedule();
    await job.promise.promise;
    return job;
  }

  /** True when all of the job is submitted, or it failed and need not be. */
  #submitChunks(job: Job): boolean {
    const engine = this.#engine;
    do {
      if (engine.failure !== undefined)
        job.error ??= new BlkError('ENODEV', `${job.what} failed: ${engine.failure}`);
      if (job.error !== undefined) return true;
      const size = chunkSizeOf(job);
      const bounce = job.bytes === undefined ? NO_BOUNCE : this.#freeBounces.pop();
      if (bounce === undefined) return false;
      const slot = this.#submitChunk(job, size, bounce);
      if (slot < 0) {
        if (bounce !== NO_BOUNCE) this.#freeBounces.push(bounce);
        if (engine.inFlightCount > 0 || engine.isResetting) return false;
        job.error = refused(job.what, slot);
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
    const { bytes, type, next, queue } = job;
    if (bytes === undefined) {
      if (job.size === 0) return engine.submit(type, job.sector, 0, 0, 0, true, queue);
      return engine.submitRange(type, job.sector + next, size, job.flags, 0, true);
    }
    const offset = this.#pool! + bounce * this.#options.bounceSize;
    if (!givesData(type)) {
      this.#options.dma.memory.u8.set(bytes.subarray(next, next + size), offset);
    }
    return engine.submit(type, job.sector + next / VIRTIO_BLK_SECTOR_SIZE, offset, size, 0, true, queue);
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

/** Of a range that needs several requests, all but the last end at a multiple of the alignment, if they can. */
function chunkSizeOf({ size, next, chunkSize, sector, alignmentSectors }: Job): number {
  const left = size - next;
  if (left <= chunkSize) return left;
  const over = (sector + next + chunkSize) % alignmentSectors;
  return over < chunkSize ? chunkSize - over : chunkSize;
}

function refused(what: string, result: number): BlkError {
  if (result === ADD_NO_ADDRESS) return new BlkError('ENOSPC', `${what}: no device address for its buffers`);
  return new BlkError('ENODEV', `${what}: the queue is broken`);
}
