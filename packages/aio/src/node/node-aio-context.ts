import type { EventFd } from '@virtlab/linux';
import type {
  AioContext,
  AioHandler,
  AioPoller,
  AioStatistics,
  BottomHalf,
  EventNotifier,
  Timer,
} from '../aio-context.ts';
import { AioLoop } from '../aio-loop.ts';
import { SPIN_AGAIN, SPIN_FOUND, type SpinResult } from '../loop-platform.ts';
import { AdaptiveSpin, type PollingOptions } from './adaptive-spin.ts';
import { type ContextKernel, NODE_KERNEL, type ReadableSet } from './context-kernel.ts';

export interface NodeAioContextOptions {
  readonly polling?: PollingOptions;
}

/** What can wake a sleeping context from another process. */
export interface WakeSource {
  /**
   * Readable: the context wakes, and the descriptor is drained. Stays the caller's; one source per
   * descriptor.
   */
  readonly eventFd: EventFd;
  /** From now on the others must write to `eventFd`; ordered before later atomic loads. */
  arm(): void;
  /** They need not any more. */
  disarm(): void;
  /** Looks for work in shared memory, does it, and says whether there was any. */
  poll(): boolean;
}

/** setTimeout takes a signed 32-bit number. */
const DELAY_MAX_MS = 0x7fff_ffff;

/**
 * A context on Node's event loop that other processes can wake, and that spins for a short adaptive time
 * before it lets them. Timers have the resolution of setTimeout, a millisecond. A wake source and an armed
 * timer keep the process alive.
 */
export class NodeAioContext implements AioContext {
  readonly #kernel: ContextKernel;
  readonly #loop: AioLoop;
  readonly #spin: AdaptiveSpin;
  /** Apart from the loop's: what is waited for synchronously comes at its own pace. */
  readonly #waitSpin: AdaptiveSpin;
  readonly #detach = new Set<() => void>();
  #sources: readonly WakeSource[] = [];
  /** Of the sources in order, for `runUntil`; made when needed. */
  #pollSet: ReadableSet | undefined;
  #timeout: NodeJS.Timeout | undefined;

  /** Another `kernel` than Node's is for explorations. */
  constructor(options: NodeAioContextOptions = {}, kernel: ContextKernel = NODE_KERNEL) {
    const now = (): number => kernel.now();
    this.#kernel = kernel;
    this.#spin = new AdaptiveSpin(now, options.polling);
    this.#waitSpin = new AdaptiveSpin(now, options.polling);
    this.#loop = new AioLoop({
      now,
      schedule: (turn) => kernel.schedule(turn),
      setAlarm: (atMs, wake) => {
        if (kernel.setAlarm !== undefined) {
          kernel.setAlarm(atMs, wake);
          return;
        }
        clearTimeout(this.#timeout);
        if (atMs === Infinity) return;
        const delayMs = Math.min(Math.ceil(Math.max(0, atMs - now())), DELAY_MAX_MS);
        this.#timeout = setTimeout(wake, delayMs);
      },
      onError: (error) => kernel.onError(error),
      spin: this.#spin,
    });
  }

  get statistics(): AioStatistics {
    return this.#loop.statistics;
  }

  /** How long the context looks for work at present before it sleeps, in nanoseconds. */
  get spinWindowNs(): number {
    return this.#spin.windowNs;
  }

  now(): number {
    return this.#loop.now();
  }

  createBottomHalf(run: () => void): BottomHalf {
    return this.#loop.createBottomHalf(run);
  }

  createTimer(run: () => void): Timer {
    return this.#loop.createTimer(run);
  }

  /** `onDispose` runs once when the notifier is disposed. */
  createEventNotifier(onDispose?: () => void): EventNotifier {
    return this.#loop.createEventNotifier(onDispose);
  }

  addHandler(notifier: EventNotifier, handler: AioHandler): Disposable {
    return this.#loop.addHandler(notifier, handler);
  }

  addPoller(poller: AioPoller): Disposable {
    return this.#loop.addPoller(poller);
  }

  leaks(): readonly string[] {
    return this.#loop.leaks();
  }

  /**
   * A notifier that an `EventFd` sets, for parties that know nothing of `notify_me` and always write.
   * Disposing it ends the watch; the `EventFd` stays the caller's. Throws `LinuxError` `ENOSYS` without the
   * FFI.
   */
  createEventFdNotifier(eventFd: EventFd): EventNotifier {
    const notifier = this.#loop.createEventNotifier(() => dispose());
    const watch = this.#kernel.watchReadable(eventFd.fd, () => {
      if (!eventFd.read()) return;
      notifier.set();
      this.#loop.wokenUp();
    });
    const dispose = (): void => {
      watch.close();
      this.#detach.delete(dispose);
    };
    this.#detach.add(dispose);
    return notifier;
  }

  /** Lets a source wake this context until disposed. Throws `LinuxError` `ENOSYS` without the FFI. */
  attach(source: WakeSource): Disposable {
    let live = true;
    const watch = this.#kernel.watchReadable(source.eventFd.fd, () => {
      if (source.eventFd.read()) this.#loop.wokenUp();
    });
    this.#setSources([...this.#sources, source]);
    const poller = this.#loop.addPoller({
      poll: () => source.poll(),
      begin: () => source.disarm(),
      end() {
        source.arm();
        return live && source.poll();
      },
    });
    const dispose = (): void => {
      if (!this.#detach.delete(dispose)) return;
      live = false;
      poller[Symbol.dispose]();
      watch.close();
      this.#setSources(this.#sources.filter((other) => other !== source));
      source.disarm();
    };
    this.#detach.add(dispose);
    return { [Symbol.dispose]: dispose };
  }

  /**
   * Blocks this thread until `done()` or for `timeoutMs`, for accesses that must be synchronous; the last
   * answer of `done`. Runs nothing but `done`, which must look at shared memory with atomic loads and is
   * called after each wake-up by any attached source. What arrived meanwhile is handled in a turn after the
   * return.
   */
  runUntil(done: () => boolean, timeoutMs: number): boolean {
    if (this.#sources.length === 0) {
      throw new TypeError('runUntil needs a wake source: nothing else could end the wait');
    }
    if (done()) return true;
    const until = this.#kernel.now() + timeoutMs;
    let spun: SpinResult;
    do spun = this.#waitSpin.idle(done, until);
    while (spun === SPIN_AGAIN);
    const result = spun === SPIN_FOUND || this.#blockUntil(done, until);
    this.#waitSpin.resumed();
    return result;
  }

  [Symbol.dispose](): void {
    for (const dispose of this.#detach) dispose();
    this.#loop[Symbol.dispose]();
  }

  #setSources(sources: readonly WakeSource[]): void {
    this.#sources = sources;
    this.#pollSet = undefined;
  }

  #blockUntil(done: () => boolean, until: number): boolean {
    // Between two turns of a polling phase the pollers' doorbells are off, and one of them may be what `done` waits for.
    const wasPolling = this.#loop.suspendPolling();
    for (const source of this.#sources) source.arm();
    try {
      return this.#waitArmed(done, until);
    } finally {
      if (wasPolling) this.#loop.resumePolling();
      this.#loop.wake();
    }
  }

  /** The sources are armed: whoever completes what `done` waits for after this look rings. */
  #waitArmed(done: () => boolean, until: number): boolean {
    const sources = this.#sources;
    this.#pollSet ??= this.#kernel.createPollSet(sources.map(({ eventFd }) => eventFd.fd));
    for (;;) {
      if (done()) return true;
      const restMs = until - this.#kernel.now();
      if (restMs <= 0) return false;
      if (this.#pollSet.wait(restMs) === 0) continue;
      for (let i = 0; i < sources.length; i++) if (this.#pollSet.isReady(i)) sources[i]!.eventFd.read();
    }
  }
}
