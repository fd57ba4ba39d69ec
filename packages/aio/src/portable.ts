import type { AioContext } from './aio-context.ts';
import { AioLoop } from './aio-loop.ts';

/** Where a portable context gets its tasks and time from. */
export interface Scheduler {
  /** Monotonic milliseconds with fraction. */
  now(): number;
  /** Runs `task` in a task of its own, soon, in the order of the calls; microtasks run in between. */
  schedule(task: () => void): void;
  /** Runs `task` once after `delayMs` or a little more, unless the returned function is called before. */
  delay(delayMs: number, task: () => void): () => void;
}

/** setTimeout takes a signed 32-bit number; a longer time is slept in parts. */
const DELAY_MAX_MS = 0x7fff_ffff;

/** Macro-tasks of the JavaScript engine at hand: setImmediate where there is one, else a MessageChannel. */
export function createScheduler(): Scheduler {
  return {
    now: () => performance.now(),
    schedule: typeof setImmediate === 'function' ? (task) => void setImmediate(task) : channelTasks(),
    delay(delayMs, task) {
      const timeout = setTimeout(task, Math.min(Math.ceil(delayMs), DELAY_MAX_MS));
      return () => clearTimeout(timeout);
    },
  };
}

function channelTasks(): (task: () => void) => void {
  const { port1, port2 } = new MessageChannel();
  const tasks: (() => void)[] = [];
  port1.addEventListener('message', () => tasks.shift()?.());
  port1.start();
  return (task) => {
    tasks.push(task);
    port2.postMessage(undefined);
  };
}

export interface AioContextOptions {
  /** Default: `createScheduler()`. */
  readonly scheduler?: Scheduler;
}

/**
 * A context on any JavaScript event loop, for parties that share a thread. It does not spin: when a turn
 * found nothing it sleeps until something of the same thread, or a timer, wakes it. An idle one does not keep
 * a process alive; an armed timer does.
 */
export function createAioContext(options: AioContextOptions = {}): AioContext {
  const scheduler = options.scheduler ?? createScheduler();
  let cancel: (() => void) | undefined;
  return new AioLoop({
    now: () => scheduler.now(),
    schedule: (turn) => scheduler.schedule(turn),
    setAlarm(atMs, wake) {
      cancel?.();
      cancel = undefined;
      if (atMs !== Infinity) cancel = scheduler.delay(Math.max(0, atMs - scheduler.now()), wake);
    },
    onError: throwLater,
  });
}

/** Makes an exception the process's or page's, outside the loop. */
export function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
