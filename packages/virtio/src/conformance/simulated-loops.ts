import type { AioContext } from '@virtlab/aio';
import { createSimulation, type DoorbellPolicy, type Simulation } from '@virtlab/aio/simulated';
import type { LoopPair } from './memory-bench.ts';

/** Virtual time that one `settle` lets pass: many turns, and little beside any deadline. */
const SETTLE_MS = 1;

/** Two loops on one virtual clock; the seed decides every order, `deliver` what happens to doorbells on their way. */
export class SimulatedLoops implements LoopPair {
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
}
