import type {
  AioContext,
  AioHandler,
  AioPoller,
  AioStatistics,
  BottomHalf,
  EventNotifier,
  Timer,
} from './aio-context.ts';
import { BottomHalves } from './bottom-halves.ts';
import { SPIN_AGAIN, SPIN_FOUND, type LoopPlatform } from './loop-platform.ts';
import { LoopNotifier } from './loop-notifier.ts';
import { Timers } from './timers.ts';

type Counters = { -readonly [Name in keyof AioStatistics]: AioStatistics[Name] };

/**
 * The one implementation of `AioContext`; a `LoopPlatform` makes it run on any event loop, on Node or in
 * virtual time.
 *
 * A turn runs the handlers that are ready, then bottom halves, then due timers, then pollers, each as of its
 * beginning. After a turn that found something the loop gives way to microtasks and other tasks and takes the
 * next turn, or, where the platform's spinning stays busy, first looks on for a bounded time; after one that found nothing it spins as the platform says and then sleeps. Before it sleeps it
 * ends every poller: from there on the others must wake it, so each `end` looks once more, and any answer of
 * true makes the loop go on.
 */
export class AioLoop implements AioContext {
  readonly #platform: LoopPlatform;
  readonly #counters: Counters = {
    sleeps: 0,
    wakeUps: 0,
    pollHits: 0,
    pollMisses: 0,
    handlerRuns: 0,
    bottomHalfRuns: 0,
    timerRuns: 0,
  };
  readonly #bottomHalves: BottomHalves;
  readonly #timers: Timers;
  readonly #run: () => void;
  readonly #pollOnce: () => boolean;
  readonly #mayStay: () => boolean;
  readonly #wake: () => void;
  readonly #onError: (error: unknown) => void;
  /** Replaced, never changed, so that a turn may go through it while callbacks add and remove. */
  #pollers: readonly AioPoller[] = [];
  #handlerCount = 0;
  #ready: LoopNotifier[] = [];
  #readyNow: LoopNotifier[] = [];
  /** Pollers have begun and not ended. */
  #polling = false;
  #running = false;
  #scheduled = false;
  #disposed = false;
  #alarmMs = Infinity;

  constructor(platform: LoopPlatform) {
    this.#platform = platform;
    this.#wake = () => this.wake();
    this.#onError = (error) => platform.onError(error);
    this.#bottomHalves = new BottomHalves(this.#wake);
    this.#timers = new Timers(
      () => platform.now(),
      () => this.#timersChanged(),
    );
    this.#pollOnce = () => this.#poll();
    this.#mayStay = () => !this.#hasWork() && !this.#disposed;
    this.#run = () => {
      this.#scheduled = false;
      this.runNow();
    };
  }

  get statistics(): AioStatistics {
    return this.#counters;
  }

  /** Whether pollers have begun, so that nobody needs to wake this loop. */
  get polling(): boolean {
    return this.#polling;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  now(): number {
    return this.#platform.now();
  }

  createBottomHalf(run: () => void): BottomHalf {
    return this.#bottomHalves.create(run);
  }

  createTimer(run: () => void): Timer {
    return this.#timers.create(run);
  }

  /** `onDispose` runs once when the notifier is disposed. */
  createEventNotifier(onDispose?: () => void): EventNotifier {
    const deliver = this.#platform.deliver?.bind(this.#platform);
    return new LoopNotifier(this, (notifier) => this.#markReady(notifier), deliver, onDispose);
  }

  addHandler(notifier: EventNotifier, handler: AioHandler): Disposable {
    if (!(notifier instanceof LoopNotifier) || notifier.owner !== this) {
      throw new TypeError('The notifier belongs to another context');
    }
    notifier.attach(handler);
    this.#handlerCount++;
    let attached = true;
    return {
      [Symbol.dispose]: () => {
        if (!attached) return;
        attached = false;
        if (notifier.handler === handler) notifier.detach();
        this.#handlerCount--;
      },
    };
  }

  addPoller(poller: AioPoller): Disposable {
    this.#pollers = [...this.#pollers, poller];
    if (this.#polling) poller.begin?.();
    // What it looks at may hold work already, for which nobody will ring again.
    this.wake();
    let added = true;
    return {
      [Symbol.dispose]: () => {
        if (!added) return;
        added = false;
        this.#pollers = this.#pollers.filter((other) => other !== poller);
        if (this.#polling) poller.end?.();
      },
    };
  }

  leaks(): readonly string[] {
    const counts: readonly (readonly [number, string])[] = [
      [this.#handlerCount, 'handlers'],
      [this.#pollers.length, 'pollers'],
      [this.#timers.armedCount, 'armed timers'],
      [this.#bottomHalves.waitingCount, 'scheduled bottom halves'],
    ];
    return counts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    if (this.#polling) this.#end();
    this.#disposed = true;
    this.#pollers = [];
    this.#handlerCount = 0;
    this.#bottomHalves.clear();
    this.#timers.clear();
    this.#setAlarm(Infinity);
  }

  /**
   * Ends every poller, for a thread that is about to block outside a turn: what the pollers had switched off would
   * otherwise not wake it. Answers whether there was anything to end; `resumePolling` undoes it.
   */
  suspendPolling(): boolean {
    if (!this.#polling) return false;
    this.#end();
    return true;
  }

  resumePolling(): void {
    if (!this.#disposed && !this.#polling) this.#begin();
  }

  /** Makes the loop take a turn soon. */
  wake(): void {
    // A running turn looks at everything once more before it lets the loop sleep.
    if (this.#scheduled || this.#running || this.#disposed) return;
    this.#scheduled = true;
    this.#platform.schedule(this.#run);
  }

  /** A system call woke the thread for this loop: takes a turn at once unless one is due anyway. */
  wokenUp(): void {
    this.#counters.wakeUps++;
    if (!this.#scheduled) this.runNow();
  }

  /** Takes a turn, and goes on or sleeps. */
  runNow(): void {
    if (this.#running || this.#disposed) return;
    this.#running = true;
    if (!this.#polling) this.#begin();
    const goOn = (this.#turn() && !this.#isStaying()) || this.#spin() || this.#mustStayAwake();
    this.#running = false;
    if (this.#disposed) return;
    if (goOn) this.wake();
    else this.#setAlarm(this.#timers.nextMs);
  }

  /** True when something was done. */
  #turn(): boolean {
    const counters = this.#counters;
    const handlers = this.#ready.length === 0 ? 0 : this.#runHandlers();
    const bottomHalves = this.#bottomHalves.run(this.#onError);
    const timers = this.#timers.run(this.#onError);
    counters.handlerRuns += handlers;
    counters.bottomHalfRuns += bottomHalves;
    counters.timerRuns += timers;
    const found = this.#poll();
    if (!found && handlers + bottomHalves + timers === 0) return false;
    this.#platform.spin?.resumed();
    return true;
  }

  #runHandlers(): number {
    const ready = this.#ready;
    this.#ready = this.#readyNow;
    this.#readyNow = ready;
    let runs = 0;
    for (const notifier of ready) {
      notifier.queued = false;
      if (notifier.handler === undefined) continue;
      runs++;
      try {
        notifier.handler.onReady();
      } catch (error) {
        this.#onError(error);
      }
    }
    ready.length = 0;
    return runs;
  }

  #poll(): boolean {
    let found = false;
    for (const poller of this.#pollers) {
      try {
        if (poller.poll()) found = true;
      } catch (error) {
        this.#onError(error);
      }
    }
    if (found) this.#counters.pollHits++;
    return found;
  }

  /** Whether what was found is no reason to give way before looking on. */
  #isStaying(): boolean {
    return this.#platform.spin?.staysBusy === true && this.#pollers.length > 0 && this.#mayStay();
  }

  /** True to go on: work was found, or the time for looking is not over. */
  #spin(): boolean {
    const spin = this.#platform.spin;
    if (spin === undefined || this.#pollers.length === 0 || this.#hasWork()) return false;
    const result = spin.idle(this.#pollOnce, this.#timers.nextMs, this.#mayStay);
    if (result === SPIN_FOUND) spin.resumed();
    return result === SPIN_FOUND || result === SPIN_AGAIN;
  }

  /** Ends polling. True when work appeared, and polling has begun again. */
  #mustStayAwake(): boolean {
    if (this.#disposed) return false;
    const arrived = this.#end();
    if (!arrived && !this.#hasWork()) {
      this.#counters.sleeps++;
      if (this.#pollers.length > 0) this.#counters.pollMisses++;
      return false;
    }
    this.#begin();
    return true;
  }

  #hasWork(): boolean {
    return this.#ready.length > 0 || this.#bottomHalves.waitingCount > 0;
  }

  #begin(): void {
    this.#polling = true;
    for (const poller of this.#pollers) {
      try {
        poller.begin?.();
      } catch (error) {
        this.#onError(error);
      }
    }
  }

  #end(): boolean {
    this.#polling = false;
    let arrived = false;
    for (const poller of this.#pollers) {
      try {
        if (poller.end?.() === true) arrived = true;
      } catch (error) {
        this.#onError(error);
      }
    }
    return arrived;
  }

  #markReady(notifier: LoopNotifier): void {
    notifier.queued = true;
    this.#ready.push(notifier);
    this.wake();
  }

  #timersChanged(): void {
    if (!this.#running && !this.#scheduled && !this.#disposed) this.#setAlarm(this.#timers.nextMs);
  }

  #setAlarm(atMs: number): void {
    if (atMs === this.#alarmMs) return;
    this.#alarmMs = atMs;
    this.#platform.setAlarm(atMs, () => {
      this.#alarmMs = Infinity;
      this.wake();
    });
  }
}
