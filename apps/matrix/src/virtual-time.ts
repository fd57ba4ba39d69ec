import type { Simulation } from '@virtlab/aio/simulated';

const STEP_MS = 20;

/** Lets a simulation run until the work is over, at most so long in virtual time; rejects as it does. */
export async function inVirtualTime<T>(
  simulation: Simulation,
  work: Promise<T>,
  limitMs: number,
): Promise<T> {
  const state = { isOver: false };
  const over = (): void => void (state.isOver = true);
  work.then(over, over);
  const startMs = simulation.now();
  while (!state.isOver) {
    if (simulation.now() - startMs > limitMs) throw new Error(`Not over after ${limitMs} virtual ms`);
    await simulation.advance(STEP_MS);
  }
  return await work;
}
