/** Conflicts that a domain may cause in a row before it is paused; also what it starts with. */
const BURST_LIMIT = 5;
const CREDIT_MIN = -1;

/**
 * Who makes others' transactions fail, pays: one point of credit each time, and a domain without credit is not served
 * until it gets a point back. One point is given out per tick, to whoever waits longest without credit, else to whoever
 * waits longest for the rest of it (domains.ml, with `conflict-rate-limit-is-aggregate`, the default).
 */
export class OxConflictCredit {
  readonly #credits = new Map<number, number>();
  #paused: number[] = [];
  #penalised: number[] = [];

  isPaused(domid: number): boolean {
    return (this.#credits.get(domid) ?? BURST_LIMIT) <= 0;
  }

  /** Whether ticks are needed. */
  get isTicking(): boolean {
    return this.#paused.length > 0 || this.#penalised.length > 0;
  }

  charge(domid: number): void {
    const before = this.#credits.get(domid) ?? BURST_LIMIT;
    const after = Math.max(CREDIT_MIN, before - 1);
    this.#credits.set(domid, after);
    if (before >= BURST_LIMIT && after > 0) this.#penalised.push(domid);
    else if (before > 0 && after <= 0) this.#paused.push(domid);
  }

  /** Gives out one point. */
  tick(): void {
    const isPausedFirst = this.#paused.length > 0;
    const queue = isPausedFirst ? this.#paused : this.#penalised;
    const domid = queue.shift();
    if (domid === undefined) return;
    const credit = Math.min(BURST_LIMIT, (this.#credits.get(domid) ?? BURST_LIMIT) + 1);
    this.#credits.set(domid, credit);
    if (isPausedFirst ? credit <= 0 : credit < BURST_LIMIT) queue.push(domid);
  }

  /** The domain is gone; a later one of its number starts anew. */
  forget(domid: number): void {
    this.#credits.delete(domid);
    this.#paused = this.#paused.filter((other) => other !== domid);
    this.#penalised = this.#penalised.filter((other) => other !== domid);
  }
}
