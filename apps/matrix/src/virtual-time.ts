import type { Simulation } from '@virtlab/aio/simulated';

const STEP_MS = 20;

/**
 * Lets a simulation run until the work is over, however it ends, at most so long in virtual time; whether it is. Rejects
 * with what a callback of the simulation threw.
 */
export async function runUntilOver(
  simulation: Simulation,
  work: Promise<unknown>,
  limitMs: number,
): Promise<boolean> {
  const state = { isOver: false };
  const over = (): void => void (state.isOver = true);
  work.then(over, over);
  const endMs = simulation.now() + limitMs;
  while (!state.isOver && simulation.now() < endMs) await simulation.advance(STEP_MS);
  return state.isOver;
}

/** The same, to what the work resolves to; rejects as it does, or when it is not over in time. */
export async function inVirtualTime<T>(
  simulation: Simulation,
  work: Promise<T>,
  limitMs: number,
): Promise<T> {
  if (!(await runUntilOver(simulation, work, limitMs)))
    throw new Error(`Not over after ${limitMs} virtual ms`);
  return await work;
}
