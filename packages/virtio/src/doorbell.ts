/**
 * Doorbells of the memory transport, and what a real machine does to them: they merge, arrive late, and ring for nothing.
 * Never are they lost: after `ring` returned, the handler runs at least once.
 */
import type { AioContext, EventNotifier, Prng, Timer } from '@virtlab/aio';

/**
 * - `calm`: one ring, one run, unless the handler is already due.
 * - `coalescing`: rings within a moment become one.
 * - `late`: each ring takes its own time.
 * - `spurious`: calm, and rings for nothing come on top.
 */
export type DoorbellPolicy = 'calm' | 'coalescing' | 'late' | 'spurious';

/** Longest delay, in the receiving context's milliseconds. */
const DELAY_MAX_MS = 2;
const SPURIOUS_PROBABILITY = 0.25;

export class Doorbell implements Disposable {
  readonly #policy: DoorbellPolicy;
  readonly #random: Prng;
  readonly #notifier: EventNotifier;
  readonly #registration: Disposable;
  readonly #timer: Timer;

  /** `handler` runs in `aio`. */
  constructor(aio: AioContext, handler: () => void, policy: DoorbellPolicy, random: Prng) {
    this.#policy = policy;
    this.#random = random;
    this.#notifier = aio.createEventNotifier();
    this.#registration = aio.addHandler(this.#notifier, {
      onReady: () => {
        this.#notifier.testAndClear();
        handler();
      },
    });
    this.#timer = aio.createTimer(() => this.#notifier.set());
  }

  ring(): void {
    switch (this.#policy) {
      case 'calm':
        this.#notifier.set();
        break;
      case 'coalescing':
        // The delay runs from the first ring, so every ring is followed by a run.
        if (!this.#timer.armed) this.#timer.arm(this.#random.fraction() * DELAY_MAX_MS);
        break;
      case 'late':
        if (this.#timer.armed) this.#notifier.set();
        this.#timer.arm(this.#random.fraction() * DELAY_MAX_MS);
        break;
      case 'spurious':
        this.#notifier.set();
        if (this.#random.fraction() < SPURIOUS_PROBABILITY)
          this.#timer.arm(this.#random.fraction() * DELAY_MAX_MS);
        break;
    }
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
    this.#registration[Symbol.dispose]();
    this.#notifier[Symbol.dispose]();
  }
}
