import type { AioContext, Timer } from '@virtlab/aio';

/** When the driver wants to hear of used buffers (§5.1.9.5.10). */
export interface Coalescing {
  /** Packets after which it is called at once; 0: their number does not matter. */
  readonly maxPackets: number;
  /** Microseconds after the first of them at the latest; 0: at once, so that no packet waits for ever. */
  readonly maxUsecs: number;
}

export const NO_COALESCING: Coalescing = { maxPackets: 0, maxUsecs: 0 };

const USECS_IN_MS = 1000;

/** Delays calls of one queue; used entries are visible at once, so a driver that polls loses nothing. */
export class NotificationCoalescer {
  readonly #aio: AioContext;
  readonly #call: () => void;
  #timer: Timer | undefined;
  #settings: Coalescing = NO_COALESCING;
  #count = 0;

  constructor(aio: AioContext, call: () => void) {
    this.#aio = aio;
    this.#call = call;
  }

  get settings(): Coalescing {
    return this.#settings;
  }

  /** Packets that wait under the old settings are called for now. */
  set(settings: Coalescing): void {
    this.#settings = settings;
    if (this.#count > 0) this.#fire();
  }

  /** `count` packets were used. True: call now; false: later. */
  add(count: number): boolean {
    const { maxPackets, maxUsecs } = this.#settings;
    if (maxUsecs === 0) return true;
    this.#count += count;
    if (maxPackets > 0 && this.#count >= maxPackets) {
      this.cancel();
      return true;
    }
    this.#timer ??= this.#aio.createTimer(() => this.#fire());
    if (!this.#timer.armed) this.#timer.arm(maxUsecs / USECS_IN_MS);
    return false;
  }

  /** Forgets what waits. */
  cancel(): void {
    this.#count = 0;
    this.#timer?.disarm();
  }

  dispose(): void {
    this.cancel();
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }

  #fire(): void {
    this.cancel();
    this.#call();
  }
}
