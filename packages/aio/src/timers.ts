import type { Timer } from './aio-context.ts';

class Entry implements Timer {
  readonly #owner: Timers;
  readonly run: () => void;
  /** Infinity: not armed. */
  at: number = Infinity;
  /** Counts armings: earlier ones run first at the same time. */
  order: number = 0;

  constructor(owner: Timers, run: () => void) {
    this.#owner = owner;
    this.run = run;
  }

  get armed(): boolean {
    return this.at !== Infinity;
  }

  arm(delayMs: number): void {
    if (!(delayMs >= 0 && delayMs < Infinity))
      throw new RangeError(`Delay ${delayMs} is not a number of milliseconds`);
    this.#owner.arm(this, delayMs);
  }

  disarm(): void {
    this.#owner.disarm(this);
  }

  [Symbol.dispose](): void {
    this.#owner.disarm(this);
  }
}

/** The timers of a loop, sorted by (deadline, order of arming). A loop has few, so a sorted array does. */
export class Timers {
  readonly #now: () => number;
  readonly #onChanged: () => void;
  readonly #armed: Entry[] = [];
  #order = 0;

  constructor(now: () => number, onChanged: () => void) {
    this.#now = now;
    this.#onChanged = onChanged;
  }

  get armedCount(): number {
    return this.#armed.length;
  }

  /** The earliest deadline, or Infinity. */
  get nextMs(): number {
    return this.#armed.length === 0 ? Infinity : this.#armed[0]!.at;
  }

  create(run: () => void): Timer {
    return new Entry(this, run);
  }

  arm(entry: Entry, delayMs: number): void {
    this.#remove(entry);
    entry.at = this.#now() + delayMs;
    entry.order = this.#order++;
    let index = this.#armed.length;
    while (index > 0 && this.#armed[index - 1]!.at > entry.at) index--;
    this.#armed.splice(index, 0, entry);
    this.#onChanged();
  }

  disarm(entry: Entry): void {
    if (!entry.armed) return;
    this.#remove(entry);
    this.#onChanged();
  }

  /** Runs what is due and was armed before this call; the number of runs. */
  run(onError: (error: unknown) => void): number {
    if (this.#armed.length === 0) return 0;
    const now = this.#now();
    const before = this.#order;
    let runs = 0;
    let index = 0;
    while (index < this.#armed.length) {
      const entry = this.#armed[index]!;
      if (entry.at > now) break;
      if (entry.order >= before) {
        index++;
        continue;
      }
      this.#remove(entry);
      runs++;
      try {
        entry.run();
      } catch (error) {
        onError(error);
      }
      // The callback may have changed the array anywhere.
      index = 0;
    }
    return runs;
  }

  clear(): void {
    for (const entry of this.#armed) entry.at = Infinity;
    this.#armed.length = 0;
  }

  #remove(entry: Entry): void {
    if (!entry.armed) return;
    this.#armed.splice(this.#armed.indexOf(entry), 1);
    entry.at = Infinity;
  }
}
