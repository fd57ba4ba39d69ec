import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { DeviceQueue, RingViolation } from '@virtlab/vring';
import type { DeviceActivation } from './contract.ts';
import type { HostedQueue } from './hosted-queue.ts';
import type { QueueService } from './queue-service.ts';

export interface ActivationEvents {
  configChanged(): void;
  fail(violation: RingViolation): void;
}

/** One span from DRIVER_OK to reset. What a device still does with it afterwards has no effect. */
export class Activation implements DeviceActivation {
  readonly features: FeatureBits;
  readonly aio: AioContext;
  readonly #queues: (DeviceQueue | undefined)[];
  readonly #service: QueueService;
  readonly #events: ActivationEvents;
  #isLive = true;

  constructor(features: FeatureBits, aio: AioContext, service: QueueService, events: ActivationEvents) {
    this.features = features;
    this.aio = aio;
    this.#queues = service.queues.map(devicesOwn);
    this.#service = service;
    this.#events = events;
  }

  /** A queue that was reset stays what it is here, stopped, until the driver enables it again. */
  get queues(): readonly (DeviceQueue | undefined)[] {
    return this.#queues;
  }
  setQueue(index: number, queue: HostedQueue): void {
    this.#queues[index] = devicesOwn(queue);
  }

  complete(queue: number): void {
    if (this.#isLive) this.#service.complete(queue);
  }

  configChanged(): void {
    if (this.#isLive) this.#events.configChanged();
  }

  fail(violation: RingViolation): void {
    if (this.#isLive) this.#events.fail(violation);
  }

  retire(): void {
    this.#isLive = false;
  }
}

function devicesOwn(queue: HostedQueue | undefined): DeviceQueue | undefined {
  return queue?.isDiscarded === true ? undefined : queue;
}
