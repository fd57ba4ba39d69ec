/** Looks between two looks at the clock. */
const LOOKS_PER_CLOCK = 256;
/** Without progress for so long, the processor is given away for a moment: the other side may be waiting for this very one. */
const SPIN_MS = 0.1;
const NAP_MS = 0.05;
/** Without progress for so long, the other side is gone or stuck. */
const PATIENCE_MS = 2000;

const napWord = new Int32Array(new SharedArrayBuffer(4));

/** The bound of a loop that looks at shared memory: it naps when looking is vain, and gives up on a peer that makes no progress. */
export class BoundedSpin {
  #looks = 0;
  /** When looking began to be vain, and when the latest stretch of it began; 0: it is not. */
  #vainSince = 0;
  #spinSince = 0;

  /** After a look that found something. */
  progress(): void {
    this.#looks = 0;
    this.#vainSince = 0;
  }

  /** After a look that found nothing. Throws when that has been so for too long. */
  idle(): void {
    this.#looks += 1;
    if (this.#looks % LOOKS_PER_CLOCK === 0) this.#lookAtClock();
  }

  #lookAtClock(): void {
    const now = performance.now();
    if (this.#vainSince === 0) {
      this.#vainSince = now;
      this.#spinSince = now;
    } else if (now - this.#vainSince > PATIENCE_MS) {
      throw new Error(`No progress for ${PATIENCE_MS} ms`);
    } else if (now - this.#spinSince > SPIN_MS) {
      Atomics.wait(napWord, 0, 0, NAP_MS);
      this.#spinSince = performance.now();
    }
  }
}
