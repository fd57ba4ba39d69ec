/**
 * Runs synchronous functions as threads over shared words, in every order of their atomic operations. The functions
 * are product code as it stands: each use of `Atomics` is one step. To take one step of a thread it is run again from its
 * beginning, the results of its earlier steps given from a log, and left with an exception where its next step would be;
 * so a thread must depend on nothing but what its atomics return. States that were seen are not explored again.
 */
export interface Exploration {
  /** The shared words; they are restored to what they held when the exploration began. */
  readonly words: Int32Array;
  readonly threads: readonly (() => void)[];
  /** Threads that are killed, by index, after so many steps. */
  readonly killedAfter?: Readonly<Record<number, number>>;
  /** Called with the final words of every different end, outside the model; answers what is wrong with them. */
  readonly check: () => string | undefined;
}

export interface ExplorationResult {
  readonly stateCount: number;
  readonly endCount: number;
  /** What `check` said first, and the schedule that led there: the thread of each step. */
  readonly failure: { readonly message: string; readonly schedule: readonly number[] } | undefined;
}

interface State {
  readonly words: Int32Array;
  readonly logs: readonly (readonly number[])[];
  readonly isDone: readonly boolean[];
}

const OPERATIONS = ['load', 'store', 'or', 'and', 'exchange', 'compareExchange'] as const;
type Operation = (array: Int32Array, ...operands: number[]) => number;
const SUSPEND: unique symbol = Symbol('suspend');

/** The thread that runs now; undefined outside the model. */
let running: { readonly log: number[]; at: number; stepsLeft: number } | undefined;

export function exploreInterleavings(exploration: Exploration): ExplorationResult {
  const { words, threads, check, killedAfter = {} } = exploration;
  const start = words.slice();
  const seen = new Set<string>();
  let endCount = 0;
  let failure: ExplorationResult['failure'];
  const schedule: number[] = [];

  const visit = (state: State): void => {
    const key = keyOf(state);
    if (seen.has(key) || failure !== undefined) return;
    seen.add(key);
    if (state.isDone.every(Boolean)) {
      endCount += 1;
      words.set(state.words);
      const message = check();
      if (message !== undefined) failure = { message, schedule: [...schedule] };
      return;
    }
    for (const [thread, run] of threads.entries()) {
      if (state.isDone[thread]!) continue;
      words.set(state.words);
      const log = [...state.logs[thread]!];
      const isDone = log.length === killedAfter[thread] || step(run, log);
      schedule.push(thread);
      visit({
        words: words.slice(),
        logs: state.logs.with(thread, log),
        isDone: state.isDone.with(thread, isDone),
      });
      schedule.pop();
    }
  };

  const restore = instrument();
  try {
    visit({ words: start.slice(), logs: threads.map(() => []), isDone: threads.map(() => false) });
  } finally {
    restore();
    words.set(start);
  }
  return { stateCount: seen.size, endCount, failure };
}

function keyOf({ words, logs, isDone }: State): string {
  let key = `${isDone.join()} ${logs.join(' ')}`;
  for (let index = 0; index < words.length; index++)
    if (words[index] !== 0) key += ` ${index}:${words[index]}`;
  return key;
}

/** One atomic operation of a thread; appends its result to the log. True if the thread has ended with it. */
function step(run: () => void, log: number[]): boolean {
  running = { log, at: 0, stepsLeft: 1 };
  try {
    run();
    return true;
  } catch (error) {
    if (error !== SUSPEND) throw error;
    return false;
  } finally {
    running = undefined;
  }
}

function instrument(): () => void {
  const originals = OPERATIONS.map((name) => [name, Atomics[name] as unknown as Operation] as const);
  for (const [name, original] of originals) {
    const instrumented: Operation = (array, ...operands) => {
      const thread = running;
      if (thread === undefined) return original(array, ...operands);
      if (thread.at === thread.log.length) {
        if (thread.stepsLeft === 0) throw SUSPEND;
        thread.stepsLeft -= 1;
        thread.log.push(original(array, ...operands));
      }
      const result = thread.log[thread.at]!;
      thread.at += 1;
      return result;
    };
    Object.assign(Atomics, { [name]: instrumented });
  }
  return () => void Object.assign(Atomics, Object.fromEntries(originals));
}
