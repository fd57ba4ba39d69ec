import type { AioContext } from '@virtlab/aio';
import { createSimulation, type DoorbellPolicy, type Simulation } from '@virtlab/aio/simulated';
import { runUntilDone } from './run-until.ts';

/** Virtual time that one `settle` lets pass: longer than any delay of a doorbell, and little beside any deadline. */
const SETTLE_MS = 25;

/** Driver's and device's loop on one virtual clock; the seed decides every order, `deliver` the doorbells' delays. */
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

  /** What `work` comes to while both loops run; a failure if it comes to nothing. */
  async run<T>(work: PromiseLike<T>): Promise<T> {
    return await runUntilDone(this, work);
  }

  [Symbol.dispose](): void {
    this.driverAio[Symbol.dispose]();
    this.deviceAio[Symbol.dispose]();
  }
}
