import type { End, Exploration, ExplorationResult, Failure, MemoryModel, TraceStep } from './exploration.ts';
import { watchAtomics } from './shared-memory.ts';
import { type State, type Step, actionOf, firstState, follow, isEnabled, keyOf, textOf } from './steps.ts';
import { Visibility } from './visibility.ts';
import { World } from './world.ts';

const STATE_LIMIT = 1_000_000;
/** So many at once, in case they go round in a circle. */
const SETTLE_MAX = 200;

/**
 * Goes through all interleavings, breadth first, so the first failure found is a shortest one. Failures are errors that a
 * thread throws and what `check` says of an end. Not reentrant; a thread must not explore.
 */
export function explore(exploration: Exploration, memoryModel: MemoryModel = 'sc'): ExplorationResult {
  return exploreWorld(exploration, memoryModel).result;
}

/** The same, with the automata of the threads that were found on the way. */
export function exploreWorld(
  exploration: Exploration,
  memoryModel: MemoryModel,
): { readonly result: ExplorationResult; readonly world: World } {
  const restore = watchAtomics();
  try {
    const world = new World(exploration, memoryModel);
    const visibility = new Visibility(world, exploration.isReduced ?? true);
    let search: Search;
    do {
      search = new Search(world, visibility, exploration);
      search.run();
      // What was taken for one thread's own turned out to be shared: once more, with a step for each access to it.
    } while (search.failure === undefined && visibility.hasChanged());
    return { result: search.result(), world };
  } finally {
    restore();
  }
}

class Search {
  readonly #world: World;
  readonly #visibility: Visibility;
  readonly #check: ((end: End) => string | undefined) | undefined;
  readonly #limit: number;
  /** States by key; the index is their number. */
  readonly #numbers = new Map<string, number>();
  readonly #states: (State | undefined)[] = [];
  readonly #parents: number[] = [];
  readonly #steps: (Step | undefined)[] = [];
  #transitionCount = 0;
  #endCount = 0;
  #isComplete = true;
  failure: Failure | undefined;

  constructor(world: World, visibility: Visibility, { check, stateLimit = STATE_LIMIT }: Exploration) {
    this.#world = world;
    this.#visibility = visibility;
    this.#check = check;
    this.#limit = stateLimit;
  }

  run(): void {
    this.#reach(firstState(this.#world), -1, undefined);
    for (let number = 0; number < this.#states.length; number++) {
      if (this.failure !== undefined) return;
      if (this.#states.length > this.#limit) {
        this.#isComplete = false;
        return;
      }
      this.#expand(this.#states[number]!, number);
      this.#states[number] = undefined;
    }
  }

  result(): ExplorationResult {
    return {
      memoryModel: this.#world.memoryModel,
      threadCount: this.#world.threads.length,
      stateCount: this.#parents.length,
      transitionCount: this.#transitionCount,
      endCount: this.#endCount,
      isComplete: this.#isComplete,
      failure: this.failure,
    };
  }

  #expand(state: State, number: number): void {
    const all = this.#stepsFrom(state);
    if (all.length === 0) return this.#end(state, number);
    const sufficient = this.#visibility.sufficient(all, state);
    if (sufficient === undefined) return this.#takeAll(state, number, all);
    const before = this.#states.length;
    this.#takeAll(state, number, sufficient);
    // The others may wait, unless this would make them wait for ever in a loop.
    if (this.#states.length > before) return;
    this.#takeAll(
      state,
      number,
      all.filter((step) => !sufficient.includes(step)),
    );
  }

  #takeAll(state: State, number: number, steps: readonly Step[]): void {
    for (const step of steps) {
      this.#visibility.observe(state, step);
      this.#transitionCount += 1;
      this.#reach(follow(this.#world, state, step), number, step);
    }
  }

  #stepsFrom(state: State): Step[] {
    const steps: Step[] = [];
    const { threads } = this.#world;
    for (let thread = 0; thread < threads.length; thread++) {
      const action = actionOf(this.#world, state, thread);
      if (isEnabled(this.#world, state, thread)) {
        const count = action.kind === 'choose' ? action.count : 1;
        for (let choice = 0; choice < count; choice++) steps.push({ thread, kind: 'act', choice });
      }
      if (state.buffers[thread]!.length > 0) steps.push({ thread, kind: 'flush', choice: 0 });
      if (this.#world.mortal[thread]! && !threads[thread]!.isOver(state.places[thread]!))
        steps.push({ thread, kind: 'kill', choice: 0 });
    }
    return steps;
  }

  #reach(reached: State, parent: number, step: Step | undefined): void {
    const state = this.#settle(reached, () => void (this.#transitionCount += 1));
    const key = keyOf(this.#world, state);
    if (this.#numbers.has(key)) return;
    const number = this.#states.push(state) - 1;
    this.#numbers.set(key, number);
    this.#parents.push(parent);
    this.#steps.push(step);
    if (this.failure !== undefined) return;
    for (const [thread, { name }] of this.#world.threads.entries()) {
      const action = actionOf(this.#world, state, thread);
      if (action.kind !== 'fail') continue;
      this.failure = { message: `${name}: ${action.message}`, trace: this.#traceTo(number) };
      return;
    }
  }

  /** Takes single steps that are sufficient at once; what lies between them is nothing that has to be remembered. */
  #settle(from: State, onStep: (state: State, step: Step) => void): State {
    let state = from;
    for (let count = 0; count < SETTLE_MAX; count++) {
      const steps = this.#visibility.sufficient(this.#stepsFrom(state), state);
      if (steps?.length !== 1) return state;
      this.#visibility.observe(state, steps[0]!);
      onStep(state, steps[0]!);
      state = follow(this.#world, state, steps[0]!);
    }
    return state;
  }

  #end(state: State, number: number): void {
    this.#endCount += 1;
    if (this.#check === undefined) return;
    const message = this.#check(this.#endOf(state));
    if (message !== undefined) this.failure = { message, trace: this.#traceTo(number) };
  }

  #endOf(state: State): End {
    const world = this.#world;
    world.materialize(state.cells);
    const inKind = (...kinds: string[]): string[] =>
      world.threads
        .filter((_, thread) => kinds.includes(actionOf(world, state, thread).kind))
        .map(({ name }) => name);
    return {
      word: (name) => {
        const offset = world.memory.offsetOf(name);
        if (offset === undefined) throw new TypeError(`There is no word ${name}`);
        return new Int32Array(world.memory.bytes.buffer)[offset >>> 2]!;
      },
      note: (name) => {
        const notes = world.threads.map((each, thread) => each.notesAt(state.places[thread]!).get(name));
        return notes.find((note) => note !== undefined) ?? 0;
      },
      asleep: inKind('sleep', 'awaitEnd'),
      killed: inKind('dead'),
    };
  }

  #traceTo(number: number): Failure['trace'] {
    const steps: Step[] = [];
    for (let at = number; this.#parents[at]! >= 0; at = this.#parents[at]!) steps.unshift(this.#steps[at]!);
    const trace: TraceStep[] = [];
    const add = (state: State, step: Step): void => {
      const thread = this.#world.threads[step.thread]!.name;
      trace.push({ thread, text: textOf(this.#world, state, step) });
    };
    let state = this.#settle(firstState(this.#world), add);
    for (const step of steps) {
      add(state, step);
      state = this.#settle(follow(this.#world, state, step), add);
    }
    return trace;
  }
}
