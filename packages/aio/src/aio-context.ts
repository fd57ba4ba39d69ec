/**
 * AioContext, after QEMU's: one event loop that owns handlers, bottom halves and timers, and runs each to
 * completion, one at a time. A handler records and does bounded work; a bottom half acts later in the same loop.
 *
 * Wake-up suppression (`notify_me`, QEMU util/async.c): a context that is running or polling needs no wake-up.
 * `EventNotifier.set` therefore costs a store and a load unless the context sleeps.
 */
export interface AioContext {
  /** Monotonic milliseconds with fraction; virtual under simulation. */
  now(): number;

  /** A deferred callback. `schedule` is idempotent until it ran; safe from any code of this thread. */
  createBottomHalf(run: () => void): BottomHalf;
  createTimer(run: () => void): Timer;

  /** A notifier for this context, set by code of the same thread. Cross-process ones come from `@virtlab/aio/node`. */
  createEventNotifier(): EventNotifier;

  /** `onReady` runs after the notifier was set (coalesced, perhaps spuriously). Throws if the notifier is another context's. */
  addHandler(notifier: EventNotifier, handler: AioHandler): Disposable;

  /** A poll source without a notifier of its own: consulted while the context polls before it sleeps. */
  addPoller(poller: AioPoller): Disposable;

  /** Counters since creation; for benches and tests. */
  readonly statistics: AioStatistics;
  /** What is still registered: handlers, pollers, armed timers, scheduled bottom halves. Empty when nothing leaked. */
  leaks(): readonly string[];
  /** Stops the loop and drops what is registered. */
  [Symbol.dispose](): void;
}

export interface AioHandler {
  onReady(): void;
}

/**
 * Adaptive polling (QEMU `io_poll`, `io_poll_begin`, `io_poll_end`): `poll` looks at shared memory without a
 * system call, does what it finds, and answers whether it made progress. `begin`/`end` bracket a polling phase:
 * there the source suppresses its doorbell (`begin`) and re-enables it (`end`); `end` answers true when work arrived
 * meanwhile, and the context then goes on instead of sleeping.
 */
export interface AioPoller {
  poll(): boolean;
  begin?(): void;
  end?(): boolean;
}

export interface BottomHalf extends Disposable {
  schedule(): void;
  cancel(): void;
}

export interface Timer extends Disposable {
  /** (Re)arms for `AioContext.now()` + `delayMs`. */
  arm(delayMs: number): void;
  disarm(): void;
  readonly armed: boolean;
}

/** Sets carry no data, coalesce, and may be spurious; a `set` after the context went to sleep always wakes it. */
export interface EventNotifier extends Disposable {
  set(): void;
  testAndClear(): boolean;
}

export interface AioStatistics {
  /** Sleeps entered, and wake-ups by system call received. */
  readonly sleeps: number;
  readonly wakeUps: number;
  /** Poll rounds that found work, and polling phases that ended with none. */
  readonly pollHits: number;
  readonly pollMisses: number;
  readonly handlerRuns: number;
  readonly bottomHalfRuns: number;
  readonly timerRuns: number;
}
