import type { DaemonClock } from './daemon-clock.ts';

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

/** A clock that stands still until it is told to go on; for tests. */
export class ManualClock implements DaemonClock {
  #now: number;
  readonly #timers = new Set<Timer>();

  /** `now` in milliseconds since 1970. */
  constructor(now: number = 0) {
    this.#now = now;
  }

  /** Timers that have not run and were not called off. */
  get pendingCount(): number {
    return this.#timers.size;
  }

  now(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { at: this.#now + delayMs, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Time passes; what falls due runs in the order of its time. */
  advance(durationMs: number): void {
    const end = this.#now + durationMs;
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
    }
    this.#now = end;
  }
}
