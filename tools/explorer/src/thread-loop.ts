import type { Shared } from './shared.ts';
import type { SharedMemory } from './shared-memory.ts';

/** An eventfd as a word: writing sets it, reading takes it. */
export interface WordEventFd {
  readonly fd: number;
  read(): boolean;
  write(): void;
}

export interface ThreadLoopOptions {
  /** How far each look at the clock moves it. Default 0.01. */
  readonly clockStepMs?: number;
  /** Whether it may look at the eventfd between two tasks. Default true. */
  readonly looksEarly?: boolean;
}

/**
 * The event loop of a thread: tasks in order, and one eventfd that wakes it. Before a task it may or may not look at the
 * eventfd, as Node does between two immediates; without a task it sleeps until the eventfd is readable. `kernel` has the
 * shape of the `ContextKernel` of `@virtlab/aio/node`. Made anew for each run of a thread.
 */
export class ThreadLoop {
  readonly eventFd: WordEventFd;
  readonly kernel: {
    now(): number;
    schedule(turn: () => void): void;
    watchReadable(fd: number, onReadable: () => void): { close(): void };
    createPollSet(fds: readonly number[]): {
      wait(timeoutMs: number): number;
      isReady(index: number): boolean;
    };
    onError(error: unknown): void;
  };
  readonly #bell: string;
  readonly #words: Int32Array;
  readonly #index: number;
  readonly #tasks: (() => void)[] = [];
  readonly #watches = new Set<() => void>();
  readonly #looksEarly: boolean;
  #shared: Shared | undefined;
  #nowMs = 0;

  constructor(memory: SharedMemory, bell: string, options: ThreadLoopOptions = {}) {
    const { clockStepMs = 0.01, looksEarly = true } = options;
    this.#looksEarly = looksEarly;
    const offset = memory.offsetOf(bell);
    if (offset === undefined) throw new TypeError(`There is no word ${bell}`);
    this.#bell = bell;
    this.#words = memory.region.i32;
    this.#index = offset >>> 2;
    this.eventFd = {
      fd: offset,
      read: () => Atomics.exchange(this.#words, this.#index, 0) !== 0,
      write: () => void Atomics.store(this.#words, this.#index, 1),
    };
    this.kernel = {
      now: () => (this.#nowMs += clockStepMs),
      schedule: (turn) => void this.#tasks.push(turn),
      watchReadable: (_fd, onReadable) => {
        this.#watches.add(onReadable);
        return { close: () => void this.#watches.delete(onReadable) };
      },
      createPollSet: () => ({ wait: () => this.#block(), isReady: () => true }),
      onError: (error) => {
        throw error;
      },
    };
  }

  /** Another task, as of something else in the same process. */
  schedule(task: () => void): void {
    this.#tasks.push(task);
  }

  /**
   * Never returns: it sleeps for good at the end. `settledAs` is all that its objects remember when it goes to sleep, see
   * `Shared.settled`; without it histories stay apart.
   */
  run(shared: Shared, first: () => void, settledAs?: () => string): never {
    this.#shared = shared;
    first();
    for (;;) {
      const task = this.#tasks.shift();
      if (task === undefined) {
        if (settledAs !== undefined) shared.settled(settledAs());
        this.#block();
        this.#readable();
      } else {
        if (this.#looksEarly && shared.choose(2) === 1 && this.#isReadable()) this.#readable();
        task();
      }
    }
  }

  #isReadable(): boolean {
    return Atomics.load(this.#words, this.#index) !== 0;
  }

  #readable(): void {
    for (const onReadable of this.#watches) onReadable();
  }

  #block(): number {
    this.#shared!.waitFor(this.#bell);
    return 1;
  }
}
