import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_APPEND_SECTOR_SIZE,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_GET_LIFETIME,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_ZONE_APPEND,
  VIRTIO_BLK_T_ZONE_REPORT,
} from '@virtlab/abi/virtio-blk';
import type { AioContext, Timer } from '@virtlab/aio';
import type { DriverSession } from '@virtlab/virtio';
import { ADD_BROKEN, ADD_FULL, type BufferList, createBufferList } from '@virtlab/vring';
import { type BlkQueueStatistics, RequestQueue, leastLoaded } from './driver-queue.ts';
import { DriverSlots } from './driver-slots.ts';
import { COMPLETION_ECANCELED, COMPLETION_ENODEV, COMPLETION_ETIMEDOUT } from './errors.ts';

export interface EngineOptions {
  readonly session: DriverSession;
  readonly aio: AioContext;
  /** Queues of the session that the device serves. */
  readonly queueCount: number;
  /** Requests in flight at most. */
  readonly queueDepth: number;
  readonly segmentSizeMax: number;
  readonly requestTimeoutMs: number;
  /** The last status that exists: those of zones only where they were negotiated. */
  readonly statusMax: number;
  /** A request that the engine's owner submitted for itself ended. */
  readonly onInternal: (slot: number, completion: number) => void;
  /** Everything of a batch was reported, or requests were given up: there may be room. */
  readonly onBatchEnd: () => void;
}

/** Counters since creation. */
export interface EngineStatistics {
  requests: number;
  completions: number;
  /** Completions other than OK. */
  failures: number;
  /** Successful requests for which the device claimed to have written less than they need (§2.7.8.2). */
  shortCompletions: number;
}

/** For `queue` parameters: the engine chooses. */
export const ANY_QUEUE = -1;

/**
 * The data plane of the block driver: slots, queues, deadlines. Synchronous, allocates nothing per request.
 *
 * Requests are staged on the rings and become visible to the device with the next `kick`, one publication and at most
 * one doorbell for all of them on a queue. A request that names no queue goes to the least loaded.
 */
export class RequestEngine {
  readonly statistics: EngineStatistics = { requests: 0, completions: 0, failures: 0, shortCompletions: 0 };
  /** Where the append whose completion is being reported went. */
  appendSector = 0;
  readonly #options: EngineOptions;
  readonly #queues: readonly RequestQueue[];
  readonly #slots: DriverSlots;
  readonly #buffers: BufferList = createBufferList();
  readonly #timer: Timer;
  /** Slots staged since the last kick. */
  readonly #staged: Uint32Array;
  #stagedCount = 0;
  #nextQueue = 0;
  #failure: string | undefined;
  #onCompletion: ((token: number, completion: number) => void) | undefined;

  /** @throws DmaError when there is no memory for the requests' headers */
  constructor(options: EngineOptions) {
    const { session, queueCount, queueDepth } = options;
    this.#options = options;
    this.#queues = Array.from({ length: queueCount }, (_, index) => new RequestQueue(session, index));
    this.#slots = new DriverSlots(session.link.dma, queueDepth);
    this.#staged = new Uint32Array(queueDepth);
    this.#timer = options.aio.createTimer(() => this.#checkDeadlines());
    session.onBroken((reason) => this.fail(reason));
    for (const queue of this.#queues) session.onCall(queue.index, () => this.#reap(queue));
  }

  /** Why nothing is accepted any more. */
  get failure(): string | undefined {
    return this.#failure;
  }
  get capacity(): number {
    return this.#slots.capacity;
  }
  get inFlightCount(): number {
    return this.#slots.inUseCount;
  }
  get queueCount(): number {
    return this.#queues.length;
  }
  /** Some queue is being reset: `onBatchEnd` comes when that is over, also if nothing is in flight. */
  get isResetting(): boolean {
    return this.#queues.some(({ isOpen }) => !isOpen);
  }
  get queueStatistics(): readonly BlkQueueStatistics[] {
    return this.#queues.map(({ statistics }) => statistics);
  }

  onCompletion(handler: ((token: number, completion: number) => void) | undefined): void {
    this.#onCompletion = handler;
  }

  /** Stages a request whose data, if any, is `[offset, offset + size)` of the mapper's memory. Slot, or an `ADD_*`. */
  submit(
    type: number,
    sector: number,
    offset: number,
    size: number,
    token: number,
    isInternal: boolean,
    queue: number,
  ): number {
    if (this.#failure !== undefined) return ADD_BROKEN;
    const slot = this.#slots.take(type, sector, token, isInternal);
    if (slot < 0) return ADD_FULL;
    const buffers = this.#buffers;
    const isRead = givesData(type);
    buffers.clear();
    this.#slots.addHeader(buffers, slot);
    for (let done = 0; done < size; done += this.#options.segmentSizeMax) {
      const count = Math.min(size - done, this.#options.segmentSizeMax);
      if (isRead) buffers.addWritable(offset + done, count);
      else buffers.addReadable(offset + done, count);
    }
    const isAppend = type === VIRTIO_BLK_T_ZONE_APPEND;
    if (isAppend) this.#slots.addAppendStatus(buffers, slot);
    else this.#slots.addStatus(buffers, slot);
    // A report may be shorter than its buffer.
    const dataSize = isRead && type !== VIRTIO_BLK_T_ZONE_REPORT ? size : 0;
    this.#slots.expectedSize[slot] =
      dataSize + (isAppend ? VIRTIO_BLK_APPEND_SECTOR_SIZE : 0) + VIRTIO_BLK_STATUS_SIZE;
    return this.#stage(slot, queue);
  }

  /** Stages a discard, write zeroes or secure erase of one range. Slot, or an `ADD_*`. */
  submitRange(
    type: number,
    sector: number,
    sectorCount: number,
    flags: number,
    token: number,
    isInternal: boolean,
  ): number {
    if (this.#failure !== undefined) return ADD_BROKEN;
    const slot = this.#slots.take(type, 0, token, isInternal);
    if (slot < 0) return ADD_FULL;
    const buffers = this.#buffers;
    buffers.clear();
    this.#slots.addHeader(buffers, slot);
    this.#slots.addRange(buffers, slot, sector, sectorCount, flags);
    this.#slots.addStatus(buffers, slot);
    this.#slots.expectedSize[slot] = VIRTIO_BLK_STATUS_SIZE;
    return this.#stage(slot, ANY_QUEUE);
  }

  /** Shows the device what was staged. Deadlines run from here: one look at the clock for a batch. */
  kick(): void {
    if (this.#stagedCount === 0 || this.#failure !== undefined) return;
    const { requestTimeoutMs, aio } = this.#options;
    const deadline = aio.now() + requestTimeoutMs;
    for (let index = 0; index < this.#stagedCount; index += 1) {
      this.#slots.deadline[this.#staged[index]!] = deadline;
    }
    this.#stagedCount = 0;
    if (!this.#timer.armed) this.#timer.arm(requestTimeoutMs);
    for (let index = 0; index < this.#queues.length; index += 1) this.#queues[index]!.kick();
  }

  /**
   * Resets one queue alone (§2.6.1): what was on it ends with `COMPLETION_ECANCELED`, the others go on. Until then the queue
   * is full (`ADD_FULL`). Rejects as `DriverSession.resetQueue`.
   */
  async resetQueue(index: number, size: number | undefined): Promise<void> {
    const queue = this.#queues[index];
    if (queue === undefined) throw new RangeError(`no queue ${index}`);
    if (!queue.isOpen) throw new TypeError(`queue ${index} is being reset`);
    this.kick();
    queue.close();
    try {
      const fresh = await this.#options.session.resetQueue(index, {
        ...(size === undefined ? {} : { size }),
        onAbandoned: (slot) => this.#abandon(slot),
      });
      queue.reopen(fresh);
    } catch (error) {
      // Nothing happened if the device cannot do it; otherwise the session is broken.
      if (this.#failure === undefined) queue.reopen(queue.ring);
      throw error;
    } finally {
      this.#options.onBatchEnd();
      this.kick();
    }
  }

  /** Gives up: what is in flight ends with `COMPLETION_ENODEV`, and nothing is accepted. Idempotent. */
  fail(reason: string): void {
    this.#giveUp(reason, Number.NEGATIVE_INFINITY);
  }

  /** Only after the device was reset. */
  release(): void {
    this.#slots.release();
  }

  #stage(slot: number, wanted: number): number {
    const queues = this.#queues;
    let index = wanted === ANY_QUEUE ? leastLoaded(queues, this.#nextQueue) : wanted;
    let result = index < 0 ? ADD_FULL : queues[index]!.add(this.#buffers, slot);
    if (result !== 0 && wanted === ANY_QUEUE) {
      for (let other = 0; other < queues.length && result !== 0; other += 1) {
        if (other === index) continue;
        const next = queues[other]!.add(this.#buffers, slot);
        result = next === 0 ? 0 : Math.min(result, next);
        if (next === 0) index = other;
      }
    }
    if (result !== 0) {
      this.#slots.give(slot);
      return result;
    }
    this.#nextQueue = index + 1 === queues.length ? 0 : index + 1;
    this.#slots.queueIndex[slot] = index;
    this.#staged[this.#stagedCount] = slot;
    this.#stagedCount += 1;
    this.statistics.requests += 1;
    return slot;
  }

  #reap(queue: RequestQueue): void {
    const { ring } = queue;
    const slots = this.#slots;
    let isBatch = false;
    for (let slot = ring.popUsed(); slot >= 0; slot = ring.popUsed()) {
      const completion = slots.completion(slot, this.#options.statusMax);
      if (completion === VIRTIO_BLK_S_OK && ring.usedSize < slots.expectedSize[slot]!) {
        this.statistics.shortCompletions += 1;
      }
      this.#report(slot, completion);
      isBatch = true;
    }
    if (!isBatch) return;
    this.#options.onBatchEnd();
    this.kick();
  }

  #report(slot: number, completion: number): void {
    const slots = this.#slots;
    const token = slots.token[slot]!;
    this.statistics.completions += 1;
    if (completion !== VIRTIO_BLK_S_OK) this.statistics.failures += 1;
    this.appendSector = slots.appendSector(slot);
    this.#queues[slots.queueIndex[slot]!]!.completed();
    slots.give(slot);
    if (slots.isInternal[slot] === 1) this.#options.onInternal(slot, completion);
    else this.#onCompletion?.(token, completion);
  }

  #abandon(slot: number): void {
    if (this.#slots.inUse[slot] === 1) this.#report(slot, COMPLETION_ECANCELED);
  }

  #checkDeadlines(): void {
    const slots = this.#slots;
    const now = this.#options.aio.now();
    let next = Number.POSITIVE_INFINITY;
    for (let slot = 0; slot < slots.capacity; slot += 1) {
      if (slots.inUse[slot] === 1) next = Math.min(next, slots.deadline[slot]!);
    }
    if (next <= now) {
      this.#giveUp(`a request was not completed within ${this.#options.requestTimeoutMs} ms`, now);
    } else if (next !== Number.POSITIVE_INFINITY) {
      this.#timer.arm(next - now);
    }
  }

  /** Requests that were due at `now` timed out; the others lose their device. */
  #giveUp(reason: string, now: number): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#timer[Symbol.dispose]();
    this.#stagedCount = 0;
    for (const queue of this.#queues) queue.markBroken(reason);
    const slots = this.#slots;
    for (let slot = 0; slot < slots.capacity; slot += 1) {
      if (slots.inUse[slot] === 0) continue;
      this.#report(slot, slots.deadline[slot]! <= now ? COMPLETION_ETIMEDOUT : COMPLETION_ENODEV);
    }
    this.#options.onBatchEnd();
  }
}

/** Requests whose data the device writes. */
export function givesData(type: number): boolean {
  return (
    type === VIRTIO_BLK_T_IN ||
    type === VIRTIO_BLK_T_GET_ID ||
    type === VIRTIO_BLK_T_GET_LIFETIME ||
    type === VIRTIO_BLK_T_ZONE_REPORT
  );
}
