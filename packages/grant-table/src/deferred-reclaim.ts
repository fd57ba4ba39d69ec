import type { VersionedGrantTable } from './contract.ts';

/** Linux retries a second later, ten entries at a time (drivers/xen/grant-table.c, `gnttab_handle_deferred`). */
const INTERVAL_MS = 1000;
const COUNT_PER_RUN = 10;

/** A timer that its owner arms again and again; `Timer` of `@virtlab/aio` is one. */
export interface ReclaimTimer extends Disposable {
  arm(delayMs: number): void;
}

export interface DeferredReclaimOptions {
  readonly createTimer: (run: () => void) => ReclaimTimer;
  /** From one attempt to the next. Default 1000. */
  readonly intervalMs?: number;
  /** Entries of one attempt at most. Default 10. */
  readonly countPerRun?: number;
}

/**
 * Retries what a table had to defer, until nothing waits. The timer is armed only while something does. Takes the table's
 * `onDeferred`.
 */
export function keepReclaiming(table: VersionedGrantTable, options: DeferredReclaimOptions): Disposable {
  const { createTimer, intervalMs = INTERVAL_MS, countPerRun = COUNT_PER_RUN } = options;
  const timer = createTimer(() => {
    if (table.reclaimDeferred(countPerRun) > 0) timer.arm(intervalMs);
  });
  table.onDeferred(() => timer.arm(intervalMs));
  if (table.deferral.waitingCount > 0) timer.arm(intervalMs);
  return {
    [Symbol.dispose]: () => {
      table.onDeferred(undefined);
      timer[Symbol.dispose]();
    },
  };
}
