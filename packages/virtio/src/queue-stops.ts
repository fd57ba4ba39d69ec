import type { AioContext } from '@virtlab/aio';
import type { QueueHandOver } from '@virtlab/vring';
import type { HostedQueue } from './hosted-queue.ts';
import type { QueueService } from './queue-service.ts';

export interface QueueStopOptions {
  /** For the device to finish what it has; it is made to forget the rest. Default: as long as it takes. */
  readonly timeoutMs?: number;
}

/**
 * Queues that a transport stops one by one while the device lives on: nothing is popped any more, what the device has is
 * finished and published, and the queue is let go. A reset of the whole device ends the wait.
 */
export class QueueStops {
  readonly #service: QueueService;
  readonly #aio: AioContext;
  readonly #stopping = new Map<number, Promise<QueueHandOver>>();
  #ended: PromiseWithResolvers<void> = Promise.withResolvers<void>();

  constructor(service: QueueService, aio: AioContext) {
    this.#service = service;
    this.#aio = aio;
  }

  /** `forget` is the device's `resetQueue`. Resolves when the queue touches no memory, with what it takes to go on. */
  stop(
    index: number,
    queue: HostedQueue,
    options: QueueStopOptions,
    forget: () => Promise<void>,
  ): Promise<QueueHandOver> {
    const running = this.#stopping.get(index);
    if (running !== undefined) return running;
    const stopping = this.#stop(index, queue, options, forget);
    this.#stopping.set(index, stopping);
    return stopping;
  }

  /** The device was reset: queues are let go elsewhere, and who waits need not. */
  clear(): void {
    this.#stopping.clear();
    this.#ended.resolve();
    this.#ended = Promise.withResolvers<void>();
  }

  async #stop(
    index: number,
    queue: HostedQueue,
    { timeoutMs }: QueueStopOptions,
    forget: () => Promise<void>,
  ): Promise<QueueHandOver> {
    const ended = this.#ended.promise;
    const drained = Promise.withResolvers<void>();
    const timer = this.#aio.createTimer(() => drained.resolve());
    if (timeoutMs !== undefined) timer.arm(timeoutMs);
    queue.drain(() => drained.resolve());
    await Promise.race([drained.promise, ended]);
    timer[Symbol.dispose]();
    // What the device pushed and has not told of yet is finished.
    if (queue.inFlightCount > 0) this.#service.complete(index);
    const handOver = queue.handOver();
    this.#service.stopQueue(index);
    await Promise.race([forget(), ended]);
    if (this.#stopping.delete(index)) this.#service.releaseQueue(index);
    return handOver;
  }
}
