/**
 * The data plane of a driver session: calls and polling in, handlers run, kicks decided. The mirror of `QueueService`:
 * calls off, pop, calls on, and if something is there by then, once more (VIRTIO §2.7.7).
 */
import type { AioContext, AioPoller, BottomHalf } from '@virtlab/aio';
import type { DriverQueue } from '@virtlab/vring';

export interface DriverQueueStatistics {
  /** Kicks sent, and publications for which the device wanted none. */
  readonly kicks: number;
  readonly kicksSuppressed: number;
  /** Calls received. */
  readonly calls: number;
  /** Rounds in which polling found used buffers, with no call. */
  readonly polls: number;
}

type Counters = { -readonly [Name in keyof DriverQueueStatistics]: DriverQueueStatistics[Name] };

/** Runs a handler this often in one go, then lets the rest of the loop run. */
const ROUNDS_MAX = 16;

export class CallService implements AioPoller {
  readonly statistics: readonly DriverQueueStatistics[];
  readonly #counters: readonly Counters[];
  readonly #queues: readonly DriverQueue[];
  readonly #handlers: ((() => void) | undefined)[];
  /** Handlers of queues that are being reset. */
  readonly #parked = new Map<number, (() => void) | undefined>();
  readonly #owed: Uint8Array;
  readonly #onViolation: (queue: number) => void;
  readonly #later: BottomHalf;
  readonly #poller: Disposable | undefined;
  #isStopped = false;
  #isPolling = false;
  #isServing = false;

  constructor(
    aio: AioContext,
    queues: readonly DriverQueue[],
    isPolled: boolean,
    onViolation: (queue: number) => void,
  ) {
    this.#queues = queues;
    this.#handlers = queues.map(() => undefined);
    this.#counters = queues.map(() => ({ kicks: 0, kicksSuppressed: 0, calls: 0, polls: 0 }));
    this.statistics = this.#counters;
    this.#owed = new Uint8Array(queues.length);
    this.#onViolation = onViolation;
    this.#later = aio.createBottomHalf(() => this.#serveOwed());
    this.#poller = isPolled ? aio.addPoller(this) : undefined;
  }

  /** The queue at this index is being replaced: no handler runs, nothing is looked at. */
  suspend(index: number): void {
    this.#parked.set(index, this.#handlers[index]);
    this.#handlers[index] = undefined;
    this.#owed[index] = 0;
  }
  isSuspended(index: number): boolean {
    return this.#parked.has(index);
  }
  resume(index: number): void {
    const handler = this.#parked.get(index);
    this.#parked.delete(index);
    this.setHandler(index, handler);
  }

  setHandler(index: number, handler: (() => void) | undefined): void {
    if (this.#parked.has(index)) {
      this.#parked.set(index, handler);
      return;
    }
    this.#handlers[index] = handler;
    if (handler !== undefined && !this.#isStopped) this.#owe(index);
  }

  needsKick(index: number, queue: DriverQueue): boolean {
    const isNeeded = queue.needsKick();
    if (isNeeded) this.#counters[index]!.kicks += 1;
    else this.#counters[index]!.kicksSuppressed += 1;
    return isNeeded;
  }

  called(index: number): void {
    if (this.#isStopped) return;
    this.#counters[index]!.calls += 1;
    if (this.#isServing) this.#owe(index);
    else this.#serve(index);
  }

  poll(): boolean {
    let isProgress = false;
    for (let index = 0; index < this.#queues.length; index += 1) {
      const queue = this.#queues[index]!;
      if (this.#isStopped || this.#handlers[index] === undefined) continue;
      if (queue.hasUsed()) {
        this.#counters[index]!.polls += 1;
        this.#run(index, queue);
        isProgress = true;
      } else {
        this.#checkViolation(index, queue);
      }
    }
    return isProgress;
  }

  begin(): void {
    this.#isPolling = true;
    for (let index = 0; index < this.#queues.length; index += 1) {
      if (this.#handlers[index] !== undefined) this.#queues[index]!.disableCalls();
    }
  }

  end(): boolean {
    this.#isPolling = false;
    if (this.#isStopped) return false;
    let isWork = false;
    for (let index = 0; index < this.#queues.length; index += 1) {
      if (this.#handlers[index] !== undefined && this.#enableCalls(index, this.#queues[index]!))
        isWork = true;
    }
    return isWork;
  }

  stop(): void {
    this.#isStopped = true;
    this.#poller?.[Symbol.dispose]();
    this.#later[Symbol.dispose]();
  }

  #owe(index: number): void {
    this.#owed[index] = 1;
    this.#later.schedule();
  }

  #serveOwed(): void {
    for (let index = 0; index < this.#queues.length; index += 1) {
      if (this.#owed[index] === 0) continue;
      this.#owed[index] = 0;
      if (!this.#isStopped) this.#serve(index);
    }
  }

  #serve(index: number): void {
    const queue = this.#queues[index]!;
    if (this.#handlers[index] === undefined) return;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      if (!this.#isPolling) queue.disableCalls();
      this.#run(index, queue);
      // While polling, calls stay off until `end`, which looks again.
      if (this.#isStopped || this.#isPolling || !this.#enableCalls(index, queue)) return;
    }
    this.#owe(index);
  }

  #run(index: number, queue: DriverQueue): void {
    this.#isServing = true;
    try {
      this.#handlers[index]?.();
    } finally {
      this.#isServing = false;
    }
    this.#checkViolation(index, queue);
  }

  #enableCalls(index: number, queue: DriverQueue): boolean {
    const isWork = queue.enableCalls();
    if (!isWork) this.#checkViolation(index, queue);
    return isWork;
  }

  #checkViolation(index: number, queue: DriverQueue): void {
    if (queue.violation !== undefined && !this.#isStopped) this.#onViolation(index);
  }
}
