/** Looks between two looks at the clock. */
const LOOKS_PER_CLOCK = 1024;
/** Without progress for so long, the other side is gone or stuck. */
const PATIENCE_MS = 2000;

/** The bound of a loop that looks at shared memory without sleeping: it gives up on a peer that makes no progress. */
export class BoundedSpin {
  #looks = 0;
  #since = 0;

  /** After a look that found something. */
  progress(): void {
    this.#looks = 0;
    this.#since = 0;
  }

  /** After a look that found nothing. Throws when that has been so for too long. */
  idle(): void {
    this.#looks += 1;
    if (this.#looks % LOOKS_PER_CLOCK !== 0) return;
    const now = performance.now();
    if (this.#since === 0) this.#since = now;
    else if (now - this.#since > PATIENCE_MS) throw new Error(`No progress for ${PATIENCE_MS} ms`);
  }
}
