import { performance } from 'node:perf_hooks';
import { LinuxError } from '@virtlab/linux';
import { type ContextKernel, NODE_KERNEL, type ReadableSet } from './context-kernel.ts';
import { eventLoopFd } from './event-loop-fd.ts';

/** While a timer of Node's own (setTimeout) is armed, whose time nobody tells, the thread blocks no longer than this. */
const TIMER_BLOCK_MS = 1;
/** A timer that keeps nothing alive (`unref`, AbortSignal.timeout) is not even named: it may be so late. */
const BLOCK_MAX_MS = 50;
/** While turns follow one another, descriptors are looked at so often: a system call in so much work is not felt. */
const GLANCE_EVERY_MS = 0.05;

interface Watch {
  readonly fd: number;
  readonly onReadable: () => void;
}

interface Alarm {
  atMs: number;
  wake: () => void;
}

/**
 * What contexts stand on whose thread belongs to them: instead of being woken through Node's event loop, the thread blocks in
 * poll(2) on the descriptors of the contexts and on the loop's own, and gives the loop a round after each wake-up. Between a
 * kick and its handler so lies the return of one system call, and nothing of the loop.
 */
export class BlockingThread {
  readonly #loopFd: number;
  #turns: (() => void)[] = [];
  #watches: readonly Watch[] = [];
  #alarms: readonly Alarm[] = [];
  #alarmMs = Infinity;
  /** Of the loop's descriptor, then of the watches in order; made when needed. */
  #pollSet: ReadableSet | undefined;
  #isScheduled = false;
  /** Events that Node's loop had handled at the last look. */
  #loopEvents = -1;
  /** When the descriptors were last looked at. */
  #lookedMs = 0;

  constructor(loopFd: number) {
    this.#loopFd = loopFd;
  }

  /** For a context of this thread. */
  createKernel(): ContextKernel {
    const alarm: Alarm = { atMs: Infinity, wake: () => {} };
    return {
      now: () => NODE_KERNEL.now(),
      onError: (error) => NODE_KERNEL.onError(error),
      createPollSet: (fds) => NODE_KERNEL.createPollSet(fds),
      schedule: (turn) => {
        this.#turns.push(turn);
        this.#plan();
      },
      watchReadable: (fd, onReadable) => this.#watch({ fd, onReadable }),
      setAlarm: (atMs, wake) => {
        alarm.atMs = atMs;
        alarm.wake = wake;
        this.#setAlarm(alarm);
      },
    };
  }

  #watch(watch: Watch): { close(): void } {
    this.#setWatches([...this.#watches, watch]);
    this.#plan();
    return { close: () => this.#setWatches(this.#watches.filter((other) => other !== watch)) };
  }

  #setWatches(watches: readonly Watch[]): void {
    this.#watches = watches;
    this.#pollSet = undefined;
  }

  #setAlarm(alarm: Alarm): void {
    const others = this.#alarms.filter((other) => other !== alarm);
    this.#alarms = alarm.atMs === Infinity ? others : [...others, alarm];
    this.#alarmMs = this.#alarms.reduce((least, { atMs }) => Math.min(least, atMs), Infinity);
    this.#plan();
  }

  get #hasWaits(): boolean {
    return this.#watches.length > 0 || this.#alarmMs !== Infinity;
  }

  get #hasWork(): boolean {
    return this.#turns.length > 0 || this.#hasWaits;
  }

  /** While there is anything to wait for the rounds go on, and the thread lives. */
  #plan(): void {
    if (this.#isScheduled || !this.#hasWork) return;
    this.#loopEvents = -1; // tasks may be pending that come before the round
    this.#schedule();
  }

  #schedule(): void {
    this.#isScheduled = true;
    setImmediate(this.#round);
  }

  readonly #round = (): void => {
    this.#isScheduled = false;
    // Before anything runs: what is scheduled from here on comes after the next round, which therefore sees it pending.
    if (this.#hasWork) this.#schedule();
    if (this.#turns.length > 0) this.#glance();
    else if (this.#hasWaits) this.#wait();
    this.#runTurns();
    this.#plan();
  };

  #runTurns(): void {
    const turns = this.#turns;
    if (turns.length > 0) {
      this.#turns = [];
      for (const turn of turns) turn();
    }
    if (this.#alarmMs !== Infinity && NODE_KERNEL.now() >= this.#alarmMs) this.#runAlarms();
  }

  #runAlarms(): void {
    const now = NODE_KERNEL.now();
    for (const alarm of this.#alarms) {
      if (alarm.atMs > now) continue;
      alarm.atMs = Infinity;
      this.#setAlarm(alarm);
      alarm.wake();
    }
  }

  /**
   * What Node's loop is to watch it takes on when it polls itself. So the thread blocks only after a round of the loop in which
   * no event ran anything; timers ran before that poll, and so did tasks: those since the last round come after this one.
   */
  #wait(): void {
    const events = performance.nodeTiming.uvMetricsInfo.events;
    const isQuiet = events === this.#loopEvents;
    this.#loopEvents = events;
    const others = process.getActiveResourcesInfo();
    if (!isQuiet || hasTasks(others)) return;
    const untilAlarmMs = Math.max(0, this.#alarmMs - NODE_KERNEL.now());
    const blockMaxMs = others.includes('Timeout') ? TIMER_BLOCK_MS : BLOCK_MAX_MS;
    this.#look(Math.min(blockMaxMs, untilAlarmMs));
  }

  /** One context that always has work must not keep others, or its own descriptors, from being seen. */
  #glance(): void {
    if (this.#watches.length === 0 || NODE_KERNEL.now() - this.#lookedMs < GLANCE_EVERY_MS) return;
    this.#look(0);
  }

  #look(blockMs: number): void {
    const set = (this.#pollSet ??= NODE_KERNEL.createPollSet([this.#loopFd, ...this.#watches.map(fdOf)]));
    const readyCount = set.wait(blockMs);
    this.#lookedMs = NODE_KERNEL.now();
    if (readyCount === 0) return;
    const watches = this.#watches;
    for (let index = 0; index < watches.length; index += 1) {
      // A handler may have ended watches of the same round.
      const isLive = watches === this.#watches || this.#watches.includes(watches[index]!);
      if (isLive && set.isReady(index + 1)) watches[index]!.onReadable();
    }
  }
}

/** Whether any are pending but the thread's own next round. They come last in `process.getActiveResourcesInfo`. */
function hasTasks(resources: readonly string[]): boolean {
  return resources.at(-2) === 'Immediate';
}

function fdOf({ fd }: Watch): number {
  return fd;
}

let thread: Promise<BlockingThread> | undefined;

/** The calling thread. Rejects with `LinuxError` `ENOSYS` without the FFI, or where its event loop cannot be found. */
export function blockingThread(): Promise<BlockingThread> {
  thread ??= find();
  return thread;
}

async function find(): Promise<BlockingThread> {
  const fd = await eventLoopFd();
  if (fd === undefined) throw new LinuxError('ENOSYS', 'poll', 'the event loop of this thread was not found');
  return new BlockingThread(fd);
}
