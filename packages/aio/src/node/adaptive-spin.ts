import { SPIN_AGAIN, SPIN_FOUND, SPIN_SLEEP, type SpinPolicy, type SpinResult } from '../loop-platform.ts';

export interface PollingOptions {
  /** The longest time to look for work before sleeping; 0 never spins. Default 100 000. */
  readonly maxNs?: number;
  /** Factor by which the time grows when work came soon after falling asleep. Default 2. */
  readonly grow?: number;
  /** Divisor by which it shrinks when work came late. Default 2. */
  readonly shrink?: number;
  /** The first time above none. Default 4000. */
  readonly startNs?: number;
  /**
   * What a wake-up by system call takes: work seen so long after `maxNs` still counts as soon. Default 200 000.
   */
  readonly wakeNs?: number;
  /**
   * Go on looking after a find, for one slice of 50 µs, instead of letting microtasks and other tasks run first. For contexts whose
   * work is all done in the pollers themselves; where promises carry it on, it would wait for the end of the slice. Default false.
   */
  readonly staysBusy?: boolean;
}

/** One call spins no longer than this; other tasks of the event loop then get their turn. */
const SLICE_MS = 0.05;
/** Polls between two looks at the clock, and as how many of them one counts that found work. */
const POLLS_PER_LOOK = 8;
const POLLS_PER_FIND = 4;

/** Idle times without spinning after a window that grew to the maximum in vain; doubles up to the second. */
const PAUSE_MIN = 16;
const PAUSE_MAX = 1024;

/**
 * How long a context looks for work before it sleeps: QEMU's adaptive polling (util/aio-posix.c, poll_ns).
 * Each idle time is measured until work came. Within the window it was well spent; a little over, the window
 * grows; far over, it shrinks, down to none. Two things differ from QEMU's:
 * - "a little over" includes the time that the wake-up itself takes, which here is as long as the longest
 *   window: a sleeper would otherwise never find out that it woke too often;
 * - when even the longest window misses, spinning is given up for a number of idle times that doubles each
 *   time. With more runnable threads than processors, the spinner holds up the very party it waits for.
 */
export class AdaptiveSpin implements SpinPolicy {
  readonly staysBusy: boolean;
  readonly #now: () => number;
  readonly #maxMs: number;
  readonly #grow: number;
  readonly #shrink: number;
  readonly #startMs: number;
  readonly #wakeMs: number;
  #windowMs = 0;
  /** When the current idle time began; -1: not idle. */
  #idleSinceMs = -1;
  /** Idle times for which the window must not grow, and how many it will be next time. */
  #pause = 0;
  #nextPause = PAUSE_MIN;

  constructor(now: () => number, options: PollingOptions = {}) {
    const { maxNs = 100_000, grow = 2, shrink = 2, startNs = 4000, wakeNs = 200_000 } = options;
    if (!(maxNs >= 0 && startNs > 0 && wakeNs >= 0 && grow >= 1 && shrink >= 1)) {
      throw new RangeError(`Polling options out of range: ${JSON.stringify(options)}`);
    }
    this.staysBusy = (options.staysBusy ?? false) && maxNs > 0;
    this.#now = now;
    this.#maxMs = maxNs / 1e6;
    this.#grow = grow;
    this.#shrink = shrink;
    this.#startMs = Math.min(startNs, maxNs) / 1e6;
    this.#wakeMs = wakeNs / 1e6;
  }

  /** The present window. */
  get windowNs(): number {
    return this.#windowMs * 1e6;
  }

  idle(poll: () => boolean, deadlineMs: number, mayStay?: () => boolean): SpinResult {
    if (this.#maxMs === 0) return SPIN_SLEEP;
    let now = this.#now();
    if (this.#idleSinceMs < 0) this.#idleSinceMs = now;
    const stays = this.staysBusy && mayStay !== undefined;
    const sliceEnd = now + SLICE_MS;
    let end = Math.min(this.#idleSinceMs + this.#windowMs, deadlineMs);
    let found = false;
    while (now < end && now < sliceEnd) {
      let isFind = false;
      for (let i = 0; i < POLLS_PER_LOOK; i++) {
        if (!poll()) continue;
        if (!stays || !mayStay()) return SPIN_FOUND;
        isFind = true;
        i += POLLS_PER_FIND - 1;
      }
      now = this.#now();
      if (!isFind) continue;
      // A new idle time, as after `resumed`.
      found = true;
      this.#idleSinceMs = now;
      this.#nextPause = PAUSE_MIN;
      end = Math.min(now + this.#windowMs, deadlineMs);
    }
    if (now >= end) return SPIN_SLEEP;
    return found ? SPIN_FOUND : SPIN_AGAIN;
  }

  resumed(): void {
    if (this.#idleSinceMs < 0) return;
    const idleMs = this.#now() - this.#idleSinceMs;
    this.#idleSinceMs = -1;
    if (idleMs <= this.#windowMs) this.#nextPause = PAUSE_MIN;
    else if (idleMs > this.#maxMs + this.#wakeMs) this.#shrinkWindow();
    else if (this.#pause > 0) this.#pause--;
    else this.#growWindow();
  }

  #growWindow(): void {
    if (this.#windowMs === this.#maxMs) {
      this.#windowMs = 0;
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(this.#nextPause * 2, PAUSE_MAX);
      return;
    }
    const grown = this.#windowMs === 0 ? this.#startMs : this.#windowMs * this.#grow;
    this.#windowMs = Math.min(grown, this.#maxMs);
  }

  #shrinkWindow(): void {
    const shrunk = this.#windowMs / this.#shrink;
    this.#windowMs = shrunk < this.#startMs ? 0 : shrunk;
  }
}
