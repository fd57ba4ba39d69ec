import type { AioContext } from '@virtlab/aio';
import { createSimulation } from '@virtlab/aio/simulated';

/** Two simulated loops on one virtual clock, in an order that the seed decides. */
export interface TestLoop {
  /** The driver's. */
  readonly aio: AioContext;
  readonly deviceAio: AioContext;
  /** Lets everything happen that is due soon, late doorbells included; deadlines are far beyond. */
  settle(): Promise<void>;
  /** Lets `timeoutMs` of the clock pass. */
  advance(timeoutMs: number): Promise<void>;
}

/** Longer than the slowest doorbell. */
const SETTLE_MS = 25;

export function createTestLoop(seed: number = 1): TestLoop {
  const simulation = createSimulation({ seed });
  return {
    aio: simulation.createContext('driver'),
    deviceAio: simulation.createContext('device'),
    settle: () => simulation.advance(SETTLE_MS),
    advance: (timeoutMs) => simulation.advance(timeoutMs),
  };
}

/** Far beyond what anything here needs; reached only by what will never happen. */
const ROUNDS_MAX = 2000;

/** Awaits `work` while the loops run. Rejects when it is still not done after a long time. */
export async function runUntilDone<T>(loop: TestLoop, work: Promise<T>): Promise<T> {
  const progress = { isDone: false };
  const outcome = Promise.allSettled([work]).then(([settled]) => {
    progress.isDone = true;
    return settled;
  });
  for (let round = 0; round < ROUNDS_MAX && !progress.isDone; round += 1) await loop.settle();
  if (!progress.isDone) throw new Error('everything is idle and the operation has not ended');
  const settled = await outcome;
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value;
}
