/**
 * The data plane of a device host: kicks and polling in, `processQueue` and calls out. Synchronous,
 * run-to-completion, nothing allocated per request.
 *
 * Looking again closes the race between "the queue is empty" and "kick me": kicks off, process, kicks on, and if
 * something is there by then, once more (VIRTIO §2.7.10; the double check of QEMU's and rust-vmm's devices).
 */
import type { AioContext, AioPoller, BottomHalf } from '@virtlab/aio';
import type { DeviceQueue, RingViolation } from '@virtlab/vring';
import type { VirtioDevice } from './contract.ts';
import { HostedQueue, type DeviceQueueCounters, type DeviceQueueStatistics } from './hosted-queue.ts';

export interface QueueServiceEvents {
  onViolation(queue: number, violation: RingViolation): void;
  onError(error: unknown): void;
}

/** Looks at a queue this often in one go, then lets the rest of the loop run. */
const ROUNDS_MAX = 16;

export class QueueService implements AioPoller {
  readonly statistics: readonly DeviceQueueStatistics[];
  readonly #counters: readonly DeviceQueueCounters[];
  readonly #device: VirtioDevice;
  readonly #aio: AioContext;
  readonly #events: QueueServiceEvents;
  readonly #isPolled: boolean;
  readonly #queues: (HostedQueue | undefined)[];
  /** Queues that the bottom half has to look at. */
  readonly #owed: Uint8Array;
  /** Queues whose buffers the device left alone on purpose (receive queues): it comes for them by itself. */
  readonly #left: Uint8Array;
  readonly #later: BottomHalf;
  #poller: Disposable | undefined;
  #call: ((queue: number) => void) | undefined;
  #isServing = false;
  #isPolling = false;

  constructor(device: VirtioDevice, aio: AioContext, isPolled: boolean, events: QueueServiceEvents) {
    const count = device.queueSizesMax.length;
    this.#device = device;
    this.#aio = aio;
    this.#events = events;
    this.#isPolled = isPolled;
    this.#queues = Array.from({ length: count }, () => undefined);
    this.#counters = this.#queues.map(() => ({
      requests: 0,
      kicks: 0,
      polls: 0,
      calls: 0,
      callsSuppressed: 0,
    }));
    this.statistics = this.#counters;
    this.#owed = new Uint8Array(count);
    this.#left = new Uint8Array(count);
    this.#later = aio.createBottomHalf(() => this.#serveOwed());
  }

  get queues(): readonly (HostedQueue | undefined)[] {
    return this.#queues;
  }

  /** On a live device the queue is looked at once, as with `start`. */
  setQueue(index: number, queue: DeviceQueue, isDiscarded = false): HostedQueue {
    const onViolation = (violation: RingViolation): void => this.#events.onViolation(index, violation);
    const hosted = new HostedQueue(queue, this.#counters[index]!, onViolation, isDiscarded);
    this.#queues[index] = hosted;
    this.#left[index] = 0;
    if (this.#call !== undefined) this.#owe(index);
    return hosted;
  }

  /** One queue: nothing of it is processed, published or called any more. It stays mapped until `releaseQueue`. */
  stopQueue(index: number): void {
    this.#queues[index]?.stop();
    this.#owed[index] = 0;
  }

  releaseQueue(index: number): void {
    this.#queues[index]?.release();
    this.#queues[index] = undefined;
  }

  /** The device is live: kicks count from now on, and what the driver published before is looked at once. */
  start(call: (queue: number) => void): void {
    this.#call = call;
    this.#isPolling = false;
    this.#left.fill(0);
    this.#owed.fill(1);
    if (this.#isPolled) this.#poller = this.#aio.addPoller(this);
    this.#later.schedule();
  }

  /** Nothing is processed, published or called any more. Queues stay mapped until `release`. */
  stop(): void {
    this.#call = undefined;
    for (const queue of this.#queues) queue?.stop();
    this.#later.cancel();
    this.#poller?.[Symbol.dispose]();
    this.#poller = undefined;
  }

  release(): void {
    for (let index = 0; index < this.#queues.length; index += 1) {
      this.#queues[index]?.release();
      this.#queues[index] = undefined;
    }
  }

  kick(index: number): void {
    const queue = this.#queues[index];
    if (this.#call === undefined || queue === undefined || queue.isStopped) return;
    queue.counters.kicks += 1;
    this.#left[index] = 0;
    if (this.#isServing) this.#owe(index);
    else this.#serve(index, queue);
  }

  complete(index: number): void {
    const call = this.#call;
    const queue = this.#queues[index];
    if (call === undefined || queue === undefined) return;
    if (!this.#isServing) this.#left[index] = 0;
    if (queue.needsCall()) {
      queue.counters.calls += 1;
      call(index);
    } else {
      queue.counters.callsSuppressed += 1;
    }
  }

  poll(): boolean {
    let isProgress = false;
    for (let index = 0; index < this.#queues.length; index += 1) {
      const queue = this.#queues[index];
      if (queue === undefined || this.#call === undefined) continue;
      if (!queue.hasAvailable()) {
        this.#left[index] = 0;
      } else if (this.#left[index] === 0) {
        if (this.#process(index, queue)) {
          queue.counters.polls += 1;
          isProgress = true;
        } else {
          this.#left[index] = 1;
        }
      }
    }
    return isProgress;
  }

  begin(): void {
    this.#isPolling = true;
    for (const queue of this.#queues) queue?.disableKicks();
  }

  end(): boolean {
    this.#isPolling = false;
    let isWork = false;
    for (let index = 0; index < this.#queues.length; index += 1) {
      if (this.#queues[index]?.enableKicks() === true && this.#left[index] === 0) isWork = true;
    }
    return isWork && this.#call !== undefined;
  }

  [Symbol.dispose](): void {
    this.stop();
    this.release();
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
      const queue = this.#queues[index];
      if (queue === undefined || queue.isStopped || this.#call === undefined) continue;
      this.#serve(index, queue);
    }
  }

  #serve(index: number, queue: HostedQueue): void {
    let idleRounds = 0;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      if (!this.#isPolling) queue.disableKicks();
      idleRounds = this.#process(index, queue) ? 0 : idleRounds + 1;
      if (this.#call === undefined || queue.isStopped) return;
      // While polling, kicks stay off until `end`, which looks again.
      if (this.#isPolling || !queue.enableKicks()) return;
      // Buffers were there and the device took none: it keeps them for later and needs no second hint.
      if (idleRounds === 2) return;
    }
    this.#owe(index);
  }

  /** Whether the device did anything on the queue. */
  #process(index: number, queue: HostedQueue): boolean {
    const workCount = queue.workCount;
    if (queue.isDiscarded) {
      queue.discard();
      if (queue.workCount !== workCount) this.complete(index);
      return queue.workCount !== workCount;
    }
    this.#isServing = true;
    try {
      this.#device.processQueue(index);
    } catch (error) {
      this.#events.onError(error);
    }
    this.#isServing = false;
    return queue.workCount !== workCount;
  }
}
