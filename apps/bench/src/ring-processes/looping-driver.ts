import { type NodeAioContext, type SharedDoorbell, createNodeAioContext } from '@virtlab/aio/node';
import type { DriverQueue } from '@virtlab/vring';
import { elapsedNs } from '../contender.ts';
import type { NumbersDriver } from './numbers-driver.ts';
import type { DriverTotals } from './shared-ring.ts';

/** The driver on an event loop that sleeps when there is nothing to do. */
export class LoopingDriver {
  readonly #queue: DriverQueue;
  readonly #driver: NumbersDriver;
  readonly #kick: SharedDoorbell;
  readonly #call: SharedDoorbell;
  #kicks = 0;

  constructor(queue: DriverQueue, driver: NumbersDriver, kick: SharedDoorbell, call: SharedDoorbell) {
    this.#queue = queue;
    this.#driver = driver;
    this.#kick = kick;
    this.#call = call;
  }

  async run(count: number, spinMaxNs: number): Promise<DriverTotals> {
    const { sender } = this.#kick;
    const wakeUpsBefore = sender.wakeUpsSent;
    this.#kicks = 0;
    using context = createNodeAioContext({ polling: { maxNs: spinMaxNs } });
    const start = performance.now();
    await this.#move(context, count);
    const elapsed = elapsedNs(start);
    return { elapsedNs: elapsed, kicks: this.#kicks, wakeUps: sender.wakeUpsSent - wakeUpsBefore };
  }

  async #move(context: NodeAioContext, count: number): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#driver.begin(count);
    const receiver = this.#call.receive(context, () => {
      try {
        if (!this.#queue.hasUsed()) return false;
        this.#serve();
        if (this.#driver.isDone) done.resolve();
      } catch (error) {
        done.reject(error);
      }
      return true;
    });
    try {
      this.#queue.enableCalls();
      this.#fill();
      await done.promise;
    } finally {
      receiver[Symbol.dispose]();
    }
  }

  #serve(): void {
    do {
      this.#driver.collect();
      this.#fill();
    } while (this.#queue.enableCalls());
  }

  /** All that there is room for; the device may begin with the first batch while the next is made. */
  #fill(): void {
    while (this.#driver.fill() > 0) {
      if (!this.#queue.needsKick()) continue;
      this.#kicks += 1;
      this.#kick.sender.ring();
    }
  }
}
