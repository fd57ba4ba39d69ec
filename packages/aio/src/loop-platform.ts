/** What an `AioLoop` stands on: a clock, macro-tasks, and whatever the surroundings add. */
export interface LoopPlatform {
  /** Monotonic milliseconds with fraction. */
  now(): number;
  /**
   * Runs `turn` soon, in a task of its own, so that microtasks run before it. The loop asks for one at a
   * time.
   */
  schedule(turn: () => void): void;
  /** Runs `wake` at `atMs` or a little later, instead of the alarm before. Infinity: no alarm. */
  setAlarm(atMs: number, wake: () => void): void;
  /** Takes what a callback threw: a bug of its owner that the others must survive. */
  onError(error: unknown): void;
  /**
   * How a notifier's `set` reaches its loop. Default: at once. `arrive` may be called late, and more than
   * once. False: it never will be, as no real doorbell may have it.
   */
  deliver?(arrive: () => void): boolean;
  /** Looks for work before the loop sleeps. Default: not at all. */
  readonly spin?: SpinPolicy;
}

/** Work was found, and done. */
export const SPIN_FOUND = 0;
/** Nothing yet: let other tasks run and come back. */
export const SPIN_AGAIN = 1;
/** Nothing: sleep. */
export const SPIN_SLEEP = 2;
export type SpinResult = typeof SPIN_FOUND | typeof SPIN_AGAIN | typeof SPIN_SLEEP;

export interface SpinPolicy {
  /** Whether a turn that found something may look on at once; default only after other tasks had theirs. */
  readonly staysBusy?: boolean;
  /**
   * Calls `poll` for a bounded time, at most until `deadlineMs`. Where the policy stays busy it goes on after a find for as long as
   * `mayStay` answers true.
   */
  idle(poll: () => boolean, deadlineMs: number, mayStay?: () => boolean): SpinResult;
  /** The idle time that began with the first `idle` is over. */
  resumed(): void;
}
