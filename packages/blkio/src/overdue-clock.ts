import type { AioContext, Timer } from '@virtlab/aio';

/**
 * Tells how old requests are without a look at the clock for each: it ticks while there are any, and `onTick` compares
 * what is left with what was there some ticks ago.
 */
export class OverdueClock implements Disposable {
  /** Ticks, so that who submits need not ask for more than this. */
  isRunning = false;
  readonly #timer: Timer;
  readonly #tickMs: number;
  readonly #onTick: () => boolean;

  /** `onTick` answers whether it shall tick on. */
  constructor(aio: AioContext, tickMs: number, onTick: () => boolean) {
    this.#timer = aio.createTimer(() => this.#tick());
    this.#tickMs = tickMs;
    this.#onTick = onTick;
  }

  start(): void {
    this.isRunning = true;
    this.#timer.arm(this.#tickMs);
  }

  [Symbol.dispose](): void {
    // So that nobody starts it.
    this.isRunning = true;
    this.#timer[Symbol.dispose]();
  }

  #tick(): void {
    this.isRunning = false;
    if (this.#onTick() && !this.isRunning) this.start();
  }
}
