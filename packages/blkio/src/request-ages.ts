/** Clock ticks after which a request that was submitted before the first of them is overdue. */
export const OVERDUE_TICKS = 4;

/**
 * How old requests are, by the numbers that they were given when staged (modulo 2^32) and by what was the last that the device had
 * been shown at the latest ticks of a clock.
 */
export class RequestAges {
  /** The last number given. */
  staged = 0;
  /** The last one that the device was shown. */
  submitted = 0;
  /** What had been shown before a time that is up. */
  due = 0;
  readonly #history = new Int32Array(OVERDUE_TICKS);
  #tick = 0;

  /** A number for the request that is being staged. */
  next(): number {
    this.staged = (this.staged + 1) | 0;
    return this.staged;
  }

  tick(): void {
    this.due = this.#history[this.#tick]!;
    this.#history[this.#tick] = this.submitted;
    this.#tick = (this.#tick + 1) % OVERDUE_TICKS;
  }

  /** Nothing that was shown is left, and the clock rests. */
  rest(): void {
    this.#history.fill(this.submitted);
  }
}
