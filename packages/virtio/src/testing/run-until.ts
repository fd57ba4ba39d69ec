/** Whatever can let both sides do what is due. */
export interface Settling {
  settle(): Promise<void>;
}

/** Far beyond what any exchange needs; reached only by something that will never happen. */
const ROUNDS_MAX = 2000;

/** Lets both sides run until `condition` holds. Rejects, and says `what` is missing, when everything is idle before. */
export async function runUntil(machine: Settling, what: string, condition: () => boolean): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX && !condition(); round += 1) await machine.settle();
  if (!condition()) throw new Error(`Both sides are idle and still not: ${what}`);
}

/** What `work` comes to while both sides run. Rejects when everything is idle and it has not ended. */
export async function runUntilDone<T>(machine: Settling, work: PromiseLike<T>): Promise<T> {
  const progress = { isDone: false };
  const outcome = Promise.allSettled([work]).then(([settled]) => {
    progress.isDone = true;
    return settled;
  });
  await runUntil(machine, 'the operation has ended', () => progress.isDone);
  const settled = await outcome;
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value;
}
