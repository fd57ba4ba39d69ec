import type { DaemonClock } from '../daemon-clock.ts';

/** Time that passes only when told to. */
export class ManualClock implements DaemonClock {
  readonly #timers = new Set<{ readonly at: number; readonly run: () => void }>();
  #now = 1_000_000;

  get timerCount(): number {
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

  /** Lets that much time pass, running what falls due in its order. */
  advance(elapsedMs: number): void {
    const end = this.#now + elapsedMs;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.run();
    }
    this.#now = end;
  }
}
