import type { DaemonClock } from '../daemon-clock.ts';

interface Timer {
  readonly dueAt: number;
  readonly run: () => void;
}

/** A clock that goes only when it is told to, so that what waits for time is the same in every run. */
export class StepClock implements DaemonClock {
  #now = 0;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { dueAt: this.#now + delayMs, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Time passes; what falls due meanwhile runs, earliest first. */
  advance(durationMs: number): void {
    this.#now += durationMs;
    const due = [...this.#timers].filter(({ dueAt }) => dueAt <= this.#now);
    for (const timer of due.toSorted((a, b) => a.dueAt - b.dueAt)) {
      if (this.#timers.delete(timer)) timer.run();
    }
  }
}
