import type { AioContext } from '@virtlab/aio';
import { type DoorbellPolicy, type Simulation, createSimulation } from '@virtlab/aio/simulated';

/** Longer than any delay of a doorbell, shorter than any deadline. */
const SETTLE_MS = 25;
const ROUNDS_MAX = 1000;

/** Driver's and device's loop on one virtual clock. */
export class SimulatedLoops {
  readonly simulation: Simulation;
  readonly driverAio: AioContext;
  readonly deviceAio: AioContext;

  constructor(seed: number, deliver: DoorbellPolicy['name'] = 'calm') {
    this.simulation = createSimulation({ seed, deliver });
    this.driverAio = this.simulation.createContext('driver');
    this.deviceAio = this.simulation.createContext('device');
  }

  async settle(): Promise<void> {
    await this.simulation.advance(SETTLE_MS);
  }

  /** What `work` comes to, while time passes; a failure if it does not come to anything. */
  async run<T>(work: PromiseLike<T>): Promise<T> {
    const outcome = { isKnown: false };
    const known = Promise.resolve(work).finally(() => void (outcome.isKnown = true));
    // Whoever waits for `known` handles it; this only keeps an early rejection from being called unhandled.
    known.catch(() => undefined);
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (outcome.isKnown) return await known;
      await this.settle();
    }
    throw new Error(`The operation did not finish in ${ROUNDS_MAX * SETTLE_MS} ms`);
  }

  [Symbol.dispose](): void {
    this.driverAio[Symbol.dispose]();
    this.deviceAio[Symbol.dispose]();
  }
}
