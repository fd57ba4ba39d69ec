import { settle } from './shared-machine.ts';

/** Far more than anything takes on a machine that is busy with others, and less than a test may take. */
const LIMIT_MS = 45_000;

/** Lets the loop turn and the other process run until it is so. What never comes about is a failure that says what it was. */
export async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${LIMIT_MS} ms`);
    await settle();
  }
}
