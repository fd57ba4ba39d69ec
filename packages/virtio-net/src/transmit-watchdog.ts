import type { AioContext, Timer } from '@virtlab/aio';

/** What the watchdog asks of its queue. */
export interface WatchedQueue {
  /** Takes back what is finished; calls `progress` for each. */
  reclaim(): void;
  inFlightCount(): number;
  stuck(): void;
}

/** Reports a queue that has frames in flight and finishes none for a while. The timer runs only while frames are in flight. */
export class TransmitWatchdog {
  readonly #timer: Timer;
  readonly #timeoutMs: number;
  readonly #queue: WatchedQueue;
  #isProgress = false;

  constructor(aio: AioContext, timeoutMs: number, queue: WatchedQueue) {
    this.#timer = aio.createTimer(() => this.#expire());
    this.#timeoutMs = timeoutMs;
    this.#queue = queue;
  }

  /** Frames were sent. */
  watch(): void {
    if (this.#timer.armed) return;
    this.#isProgress = false;
    this.#timer.arm(this.#timeoutMs);
  }

  progress(): void {
    this.#isProgress = true;
  }

  stop(): void {
    this.#timer.disarm();
  }

  dispose(): void {
    this.#timer[Symbol.dispose]();
  }

  /** Finished frames may have waited to be taken back all the time, which is no fault of the device. */
  #expire(): void {
    this.#queue.reclaim();
    if (this.#queue.inFlightCount() === 0) return;
    if (!this.#isProgress) this.#queue.stuck();
    this.watch();
  }
}
