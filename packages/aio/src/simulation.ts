import type { AioContext } from './aio-context.ts';
import { AioLoop } from './aio-loop.ts';
import { createScheduler } from './portable.ts';
import { createPrng, type Prng } from './prng.ts';
import { StepQueue } from './step-queue.ts';

/** How `EventNotifier.set` reaches its context: all that the contract allows a doorbell to do. */
export interface DoorbellPolicy {
  readonly name: 'calm' | 'coalescing' | 'late' | 'spurious' | 'lost-then-repeated' | 'dropping';
  /** Bounds of the delay in virtual milliseconds. 0 and 0: at once. Sets within the delay are one. */
  readonly delayMs: readonly [number, number];
  /** The chance that a set arrives again later, and again. */
  readonly repeatChance: number;
  readonly repeatMax: number;
  /** The chance that a set goes missing and arrives only when it is repeated, after `lostMs`. Default 0. */
  readonly lostChance?: number;
  readonly lostMs?: number;
  /** The chance that a set never arrives: a bug, which a test of the system must find. Default 0. */
  readonly dropChance?: number;
}

export const DOORBELL_POLICIES: Readonly<Record<DoorbellPolicy['name'], DoorbellPolicy>> = {
  calm: { name: 'calm', delayMs: [0, 0], repeatChance: 0, repeatMax: 0 },
  coalescing: { name: 'coalescing', delayMs: [0.02, 0.2], repeatChance: 0, repeatMax: 0 },
  late: { name: 'late', delayMs: [0, 20], repeatChance: 0, repeatMax: 0 },
  spurious: { name: 'spurious', delayMs: [0, 0.05], repeatChance: 0.5, repeatMax: 3 },
  'lost-then-repeated': {
    name: 'lost-then-repeated',
    delayMs: [0, 0.5],
    repeatChance: 0.1,
    repeatMax: 1,
    lostChance: 0.2,
    lostMs: 40,
  },
  dropping: { name: 'dropping', delayMs: [0, 0.05], repeatChance: 0, repeatMax: 0, dropChance: 0.02 },
};

export interface SimulationOptions {
  /** Decides every free choice. The same seed and the same program give the same trace. */
  readonly seed: number;
  /** Default `calm`. */
  readonly deliver?: DoorbellPolicy['name'] | DoorbellPolicy;
  /** Steps after which `run` gives up: the contexts never become idle. Default 1 000 000. */
  readonly stepMax?: number;
  /** Entries kept; later ones are counted only. Default 100 000. */
  readonly traceMax?: number;
}

export interface RunOptions {
  /** Stop at this virtual time, and set the clock to it. */
  readonly untilMs?: number;
  /**
   * Stop when nothing is left to do (the default when `untilMs` is absent); the clock stays at the last step.
   */
  readonly untilIdle?: boolean;
}

export interface TraceEntry {
  readonly atMs: number;
  readonly context: string;
  readonly what: 'turn' | 'alarm' | 'arrival' | 'note';
  readonly detail: string;
}

export interface Simulation {
  /** A context in virtual time; names are for the trace. One of `slowness` 10 takes ten times as long for each turn. */
  createContext(name: string, options?: { readonly slowness?: number }): AioContext;
  /**
   * Takes steps; between two steps all microtasks run. Rejects with what a callback threw first. One run at a
   * time.
   */
  run(options?: RunOptions): Promise<void>;
  /** `run` for `ms` more. */
  advance(ms: number): Promise<void>;
  /** Virtual milliseconds since creation. */
  now(): number;
  /** Writes an entry of the caller's own into the trace. */
  note(context: string, detail: string): void;
  readonly trace: readonly TraceEntry[];
  readonly stepCount: number;
  /** The simulation's generator, for further choices that shall follow from the seed. */
  readonly prng: Prng;
}

/** A turn takes this long in virtual time, plus as much again by chance: time always goes on. */
const TURN_MS = 0.001;
const REPEAT_DELAY_MS = 1;

class SimulatedMachine implements Simulation {
  readonly prng: Prng;
  readonly trace: TraceEntry[] = [];
  readonly #policy: DoorbellPolicy;
  readonly #stepMax: number;
  readonly #traceMax: number;
  readonly #queue = new StepQueue();
  readonly #drain = createScheduler();
  readonly #errors: unknown[] = [];
  stepCount = 0;
  #nowMs = 0;
  #running = false;

  constructor(options: SimulationOptions) {
    const { seed, deliver = 'calm', stepMax = 1_000_000, traceMax = 100_000 } = options;
    this.prng = createPrng(seed);
    this.#policy = typeof deliver === 'string' ? DOORBELL_POLICIES[deliver] : deliver;
    this.#stepMax = stepMax;
    this.#traceMax = traceMax;
  }

  createContext(name: string, { slowness = 1 }: { readonly slowness?: number } = {}): AioContext {
    let alarm: { cancelled: boolean } | undefined;
    return new AioLoop({
      now: () => this.#nowMs,
      schedule: (turn) => {
        this.#after(TURN_MS * slowness * (1 + this.prng.fraction()), name, 'turn', turn);
      },
      setAlarm: (atMs, wake) => {
        if (alarm !== undefined) alarm.cancelled = true;
        alarm =
          atMs === Infinity ? undefined : this.#after(Math.max(0, atMs - this.#nowMs), name, 'alarm', wake);
      },
      onError: (error) => void this.#errors.push(error),
      deliver: (arrive) => this.#deliver(name, arrive),
    });
  }

  now(): number {
    return this.#nowMs;
  }

  note(context: string, detail: string): void {
    this.#record(context, 'note', detail);
  }

  async advance(ms: number): Promise<void> {
    return this.run({ untilMs: this.#nowMs + ms });
  }

  async run(options: RunOptions = {}): Promise<void> {
    if (this.#running) throw new TypeError('The simulation runs already');
    const untilMs = options.untilMs ?? Infinity;
    this.#running = true;
    try {
      const stepLimit = this.stepCount + this.#stepMax;
      await this.#settle();
      for (
        let next = this.#queue.peek();
        next !== undefined && next.atMs <= untilMs;
        next = this.#queue.peek()
      ) {
        if (this.stepCount >= stepLimit)
          throw new Error(`Not idle after ${this.#stepMax} steps (${this.#nowMs} ms)`);
        await this.#step();
      }
      if (untilMs !== Infinity && options.untilIdle !== true) this.#nowMs = Math.max(this.#nowMs, untilMs);
    } finally {
      this.#running = false;
    }
  }

  async #step(): Promise<void> {
    const step = this.#queue.pop()!;
    this.#nowMs = step.atMs;
    this.stepCount++;
    this.#record(step.context, step.what, '');
    step.run();
    await this.#settle();
  }

  /** Lets all microtasks run: a macro-task comes after them, however long their chains are. */
  async #settle(): Promise<void> {
    await new Promise<void>((resolve) => this.#drain.schedule(resolve));
    if (this.#errors.length > 0) throw this.#errors.shift();
  }

  #deliver(context: string, arrive: () => void): boolean {
    const { lostChance = 0, lostMs = 0, dropChance = 0 } = this.#policy;
    if (dropChance > 0 && this.prng.fraction() < dropChance) {
      this.#record(context, 'note', 'a doorbell was dropped');
      return false;
    }
    if (lostChance > 0 && this.prng.fraction() < lostChance) {
      this.#after(lostMs * (1 + this.prng.fraction()), context, 'arrival', arrive);
      return true;
    }
    const [least, most] = this.#policy.delayMs;
    const repeats =
      this.prng.fraction() < this.#policy.repeatChance ? 1 + this.prng.below(this.#policy.repeatMax) : 0;
    const delayMs = least + (most - least) * this.prng.fraction();
    if (delayMs === 0) arrive();
    else this.#after(delayMs, context, 'arrival', arrive);
    for (let i = 0; i < repeats; i++) {
      this.#after(delayMs + REPEAT_DELAY_MS * this.prng.fraction(), context, 'arrival', arrive);
    }
    return true;
  }

  #after(
    delayMs: number,
    context: string,
    what: 'turn' | 'alarm' | 'arrival',
    run: () => void,
  ): { cancelled: boolean } {
    return this.#queue.push(this.#nowMs + delayMs, this.prng.next(), context, what, run);
  }

  #record(context: string, what: TraceEntry['what'], detail: string): void {
    if (this.trace.length < this.#traceMax) this.trace.push({ atMs: this.#nowMs, context, what, detail });
  }
}

/** A world of contexts in one thread on a virtual clock, in an order that the seed decides. */
export function createSimulation(options: SimulationOptions): Simulation {
  return new SimulatedMachine(options);
}
