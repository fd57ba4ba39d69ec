import type { Action } from './action.ts';

/**
 * The thread that is being run again. Its earlier accesses are answered from the log; at the first one after those the
 * thread is left by an exception, and the access is what it does next. Code on the way may catch that exception, so from
 * then on every access throws it once more and nothing that the thread still does counts.
 */
export interface Run {
  readonly log: readonly number[];
  at: number;
  next: Action | undefined;
  readonly notes: Map<string, number>;
  /** What the thread said of itself after its last access, see `Shared.settled`. */
  settledAs: string | undefined;
}

const SUSPEND: unique symbol = Symbol('suspend');
let running: Run | undefined;

export function isRunning(): boolean {
  return running !== undefined;
}

/** The next thing the running thread does to what is shared; its result. */
export function perform(action: Action): number {
  const run = running;
  if (run === undefined) throw new TypeError('Shared words are used outside an exploration');
  if (run.next !== undefined) throw SUSPEND;
  if (run.at < run.log.length) {
    const result = run.log[run.at]!;
    run.at += 1;
    run.settledAs = undefined;
    return result;
  }
  run.next = action;
  throw SUSPEND;
}

export function note(name: string, value: number): void {
  if (running === undefined) throw new TypeError('A note outside an exploration');
  if (running.next === undefined) running.notes.set(name, value);
}

export function settled(key: string): void {
  if (running === undefined) throw new TypeError('A thread settles outside an exploration');
  if (running.next === undefined) running.settledAs = key;
}

/** Runs `body` with a log; what it does next, or `undefined` and what it returned. Errors of its own are its next action. */
export function rerun<T>(run: Run, body: () => T): { readonly returned: T | undefined } {
  if (running !== undefined) throw new TypeError('A thread explores');
  running = run;
  try {
    const returned = body();
    return { returned: run.next === undefined ? returned : undefined };
  } catch (error) {
    if (run.next === undefined) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      run.next = { kind: 'fail', message };
    }
    return { returned: undefined };
  } finally {
    running = undefined;
  }
}
