import type { QueueService } from './queue-service.ts';

export interface QueueResetEvents {
  /** A reset that waited for I/O is complete. */
  done(queue: number): void;
  onError(error: unknown): void;
}

/**
 * Queues of a live device that are reset alone (VIRTIO §2.6.1): stopped at once, let go when the device has forgotten
 * their chains. A reset of the whole device ends them all (`clear`).
 */
export class QueueResets {
  readonly #service: QueueService;
  readonly #events: QueueResetEvents;
  readonly #draining = new Map<number, Promise<void>>();

  constructor(service: QueueService, events: QueueResetEvents) {
    this.#service = service;
    this.#events = events;
  }

  has(queue: number): boolean {
    return this.#draining.has(queue);
  }

  /** `forget` is the device's `resetQueue`. */
  start(queue: number, forget: () => void | Promise<void>): void {
    this.#service.stopQueue(queue);
    try {
      const draining = forget();
      if (draining === undefined) {
        this.#service.releaseQueue(queue);
        return;
      }
      this.#draining.set(queue, draining);
      void this.#finish(queue, draining);
    } catch (error) {
      this.#service.releaseQueue(queue);
      this.#events.onError(error);
    }
  }

  clear(): void {
    this.#draining.clear();
  }

  async #finish(queue: number, draining: Promise<void>): Promise<void> {
    try {
      await draining;
    } catch (error) {
      this.#events.onError(error);
    }
    if (this.#draining.get(queue) !== draining) return;
    this.#draining.delete(queue);
    this.#service.releaseQueue(queue);
    this.#events.done(queue);
  }
}
