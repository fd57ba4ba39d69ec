import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
} from '@virtlab/abi/virtio-blk';
import type { AioContext, Timer } from '@virtlab/aio';
import type { DriverSession } from '@virtlab/virtio';
import { ADD_BROKEN, ADD_FULL, type BufferList, type DriverQueue, createBufferList } from '@virtlab/vring';
import { DriverSlots } from './driver-slots.ts';
import { COMPLETION_ENODEV, COMPLETION_ETIMEDOUT } from './errors.ts';

export interface EngineOptions {
  readonly session: DriverSession;
  readonly aio: AioContext;
  /** Queues of the session that the device serves. */
  readonly queueCount: number;
  /** Requests in flight at most. */
  readonly queueDepth: number;
  readonly segmentSizeMax: number;
  readonly requestTimeoutMs: number;
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

/**
 * The data plane of the block driver: slots, rings, deadlines. Synchronous, allocates nothing per request.
 *
 * Requests are staged on the rings and become visible to the device with the next `kick`, one publication and at most
 * one doorbell for all of them on a queue. Several queues are filled in turn.
 */
export class RequestEngine {
  readonly statistics: EngineStatistics = { requests: 0, completions: 0, failures: 0, shortCompletions: 0 };
  readonly #options: EngineOptions;
  readonly #queues: readonly DriverQueue[];
  readonly #slots: DriverSlots;
  readonly #buffers: BufferList = createBufferList();
  readonly #timer: Timer;
  /** Slots staged since the last kick, and queues that have any. */
  readonly #staged: Uint32Array;
  #stagedCount = 0;
  readonly #dirty: Uint8Array;
  #nextQueue = 0;
  #failure: string | undefined;
  #onCompletion: ((token: number, completion: number) => void) | undefined;

  /** @throws DmaError when there is no memory for the requests' headers */
  constructor(options: EngineOptions) {
    const { session, queueCount, queueDepth } = options;
    this.#options = options;
    this.#queues = session.queues.slice(0, queueCount);
    this.#slots = new DriverSlots(session.link.dma, queueDepth);
    this.#staged = new Uint32Array(queueDepth);
    this.#dirty = new Uint8Array(queueCount);
    this.#timer = options.aio.createTimer(() => this.#checkDeadlines());
    session.onBroken((reason) => this.fail(reason));
    this.#queues.forEach((_, index) => session.onCall(index, () => this.#reap(index)));
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
  ): number {
    if (this.#failure !== undefined) return ADD_BROKEN;
    const slot = this.#slots.take(type, sector, token, isInternal);
    if (slot < 0) return ADD_FULL;
    const buffers = this.#buffers;
    const isRead = type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_GET_ID;
    buffers.clear();
    this.#slots.addHeader(buffers, slot);
    for (let done = 0; done < size; done += this.#options.segmentSizeMax) {
      const count = Math.min(size - done, this.#options.segmentSizeMax);
      if (isRead) buffers.addWritable(offset + done, count);
      else buffers.addReadable(offset + done, count);
    }
    this.#slots.addStatus(buffers, slot);
    this.#slots.expectedSize[slot] = (isRead ? size : 0) + VIRTIO_BLK_STATUS_SIZE;
    return this.#stage(slot);
  }

  /** Stages a discard or write zeroes of one range. Slot, or an `ADD_*`. */
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
    return this.#stage(slot);
  }

  /** Shows the device what was staged. Deadlines run from here: one look at the clock for a batch. */
  kick(): void {
    if (this.#stagedCount === 0 || this.#failure !== undefined) return;
    const { requestTimeoutMs, aio, session } = this.#options;
    const deadline = aio.now() + requestTimeoutMs;
    for (let index = 0; index < this.#stagedCount; index += 1) {
      this.#slots.deadline[this.#staged[index]!] = deadline;
    }
    this.#stagedCount = 0;
    if (!this.#timer.armed) this.#timer.arm(requestTimeoutMs);
    for (let index = 0; index < this.#dirty.length; index += 1) {
      if (this.#dirty[index] === 0) continue;
      this.#dirty[index] = 0;
      session.kick(index);
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

  #stage(slot: number): number {
    const count = this.#queues.length;
    let result = ADD_FULL;
    for (let tries = 0; tries < count; tries += 1) {
      const index = this.#nextQueue;
      this.#nextQueue = index + 1 === count ? 0 : index + 1;
      result = this.#queues[index]!.add(this.#buffers, slot);
      if (result !== 0) continue;
      this.#dirty[index] = 1;
      this.#staged[this.#stagedCount] = slot;
      this.#stagedCount += 1;
      this.statistics.requests += 1;
      return slot;
    }
    this.#slots.give(slot);
    return result;
  }

  #reap(queueIndex: number): void {
    const queue = this.#queues[queueIndex]!;
    let isBatch = false;
    for (let slot = queue.popUsed(); slot >= 0; slot = queue.popUsed()) {
      const completion = this.#slots.completion(slot);
      if (completion === VIRTIO_BLK_S_OK && queue.usedSize < this.#slots.expectedSize[slot]!) {
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
    slots.give(slot);
    if (slots.isInternal[slot] === 1) this.#options.onInternal(slot, completion);
    else this.#onCompletion?.(token, completion);
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
    for (const queue of this.#queues) queue.markBroken({ section: '2.1.2', message: reason });
    const slots = this.#slots;
    for (let slot = 0; slot < slots.capacity; slot += 1) {
      if (slots.inUse[slot] === 0) continue;
      this.#report(slot, slots.deadline[slot]! <= now ? COMPLETION_ETIMEDOUT : COMPLETION_ENODEV);
    }
    this.#options.onBatchEnd();
  }
}
