import { ADD_FULL, type BufferList, type DriverQueue } from '@virtlab/vring';
import type { DriverSession } from '@virtlab/virtio';

/** Counters since creation, of one queue of the driver. */
export interface BlkQueueStatistics {
  readonly requests: number;
  readonly completions: number;
  readonly kicks: number;
  readonly kicksSuppressed: number;
  readonly calls: number;
  readonly polls: number;
}

/** One queue of the driver: its ring, which a reset of the queue replaces, and what is on it. */
export class RequestQueue {
  readonly index: number;
  readonly #session: DriverSession;
  #ring: DriverQueue;
  #requests = 0;
  #completions = 0;
  /** Requests added and not completed. */
  inFlightCount = 0;
  #isDirty = false;
  #isOpen = true;

  constructor(session: DriverSession, index: number) {
    this.index = index;
    this.#session = session;
    this.#ring = session.queues[index]!;
  }

  get ring(): DriverQueue {
    return this.#ring;
  }
  /** False while the queue is being reset. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  get statistics(): BlkQueueStatistics {
    const { kicks, kicksSuppressed, calls, polls } = this.#session.statistics[this.index]!;
    return { requests: this.#requests, completions: this.#completions, kicks, kicksSuppressed, calls, polls };
  }

  /** 0, or an `ADD_*`. */
  add(buffers: BufferList, slot: number): number {
    if (!this.#isOpen) return ADD_FULL;
    const result = this.#ring.add(buffers, slot);
    if (result !== 0) return result;
    this.#isDirty = true;
    this.#requests += 1;
    this.inFlightCount += 1;
    return 0;
  }

  /** Publishes what was added since the last time. */
  kick(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#session.kick(this.index);
  }

  /** The request is no longer on the ring. */
  completed(): void {
    this.#completions += 1;
    this.inFlightCount -= 1;
  }

  close(): void {
    this.#isOpen = false;
    this.#isDirty = false;
  }

  reopen(ring: DriverQueue): void {
    this.#ring = ring;
    this.#isOpen = true;
  }

  markBroken(reason: string): void {
    this.#ring.markBroken({ section: '2.1.2', message: reason });
  }
}

/** The queue with the fewest requests in flight, from `first` on in turn; -1 when none is open. */
export function leastLoaded(queues: readonly RequestQueue[], first: number): number {
  let best = -1;
  for (let step = 0; step < queues.length; step += 1) {
    const index = (first + step) % queues.length;
    const queue = queues[index]!;
    if (!queue.isOpen) continue;
    if (queue.inFlightCount === 0) return index;
    if (best < 0 || queue.inFlightCount < queues[best]!.inFlightCount) best = index;
  }
  return best;
}
