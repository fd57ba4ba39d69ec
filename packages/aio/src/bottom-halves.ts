import type { BottomHalf } from './aio-context.ts';

const IDLE = 0;
/** Waits for the next turn. */
const SCHEDULED = 1;
/** Its turn runs now, and it is not yet its time. */
const DUE = 2;

class Entry implements BottomHalf {
  readonly #owner: BottomHalves;
  readonly run: () => void;
  state: typeof IDLE | typeof SCHEDULED | typeof DUE = IDLE;

  constructor(owner: BottomHalves, run: () => void) {
    this.#owner = owner;
    this.run = run;
  }

  schedule(): void {
    if (this.state === IDLE) this.#owner.push(this);
  }

  cancel(): void {
    if (this.state === SCHEDULED) this.#owner.remove(this);
    this.state = IDLE;
  }

  [Symbol.dispose](): void {
    this.cancel();
  }
}

/**
 * The bottom halves of a loop. They run in the order of their scheduling; one that is scheduled while a turn
 * runs its bottom halves waits for the next turn (QEMU aio_bh_poll), so none can starve the handlers.
 */
export class BottomHalves {
  readonly #onScheduled: () => void;
  #waiting: Entry[] = [];
  #running: Entry[] = [];

  constructor(onScheduled: () => void) {
    this.#onScheduled = onScheduled;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  create(run: () => void): BottomHalf {
    return new Entry(this, run);
  }

  push(entry: Entry): void {
    entry.state = SCHEDULED;
    this.#waiting.push(entry);
    this.#onScheduled();
  }

  remove(entry: Entry): void {
    this.#waiting.splice(this.#waiting.indexOf(entry), 1);
  }

  /** Runs what waits; the number of runs. */
  run(onError: (error: unknown) => void): number {
    const due = this.#waiting;
    if (due.length === 0) return 0;
    this.#waiting = this.#running;
    this.#running = due;
    for (const entry of due) entry.state = DUE;
    let runs = 0;
    for (const entry of due) {
      if (entry.state !== DUE) continue;
      entry.state = IDLE;
      runs++;
      try {
        entry.run();
      } catch (error) {
        onError(error);
      }
    }
    due.length = 0;
    return runs;
  }

  clear(): void {
    for (const entry of this.#waiting) entry.state = IDLE;
    for (const entry of this.#running) entry.state = IDLE;
    this.#waiting.length = 0;
  }
}
