import type { DaemonClock } from './daemon-clock.ts';
import type { OutputQueue } from './output-queue.ts';

/**
 * Events that a guest does not fetch in time are dropped (C daemon, `timeout_watch_event_msec`): they no longer count
 * against its memory, nor against the outstanding requests of whoever caused them.
 */
export class EventExpiry {
  readonly #clock: DaemonClock;
  readonly #output: OutputQueue;
  readonly #timeoutMs: number;
  readonly #onExpired: () => void;
  #cancelTimer: (() => void) | undefined;

  /** `onExpired` is called after events were dropped. */
  constructor(clock: DaemonClock, output: OutputQueue, timeoutMs: number, onExpired: () => void) {
    this.#clock = clock;
    this.#output = output;
    this.#timeoutMs = timeoutMs;
    this.#onExpired = onExpired;
  }

  /** When an event that is queued now is to be dropped. The timer runs from now on. */
  nextDeadline(): number {
    this.#arm(this.#timeoutMs);
    return this.#clock.now() + this.#timeoutMs;
  }

  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #arm(delayMs: number): void {
    this.#cancelTimer ??= this.#clock.after(delayMs, () => {
      this.#cancelTimer = undefined;
      const now = this.#clock.now();
      const { droppedCount, nextDeadline } = this.#output.dropExpired(now);
      if (nextDeadline !== undefined) this.#arm(Math.max(1, nextDeadline - now));
      if (droppedCount > 0) this.#onExpired();
    });
  }
}
