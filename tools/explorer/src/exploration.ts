import type { SharedMemory } from './shared-memory.ts';
import type { Threads } from './thread.ts';

/** `sc`: every access is seen at once. `tso`: plain stores wait in a first-in first-out buffer of their thread, as on x86. */
export type MemoryModel = 'sc' | 'tso';

export const MEMORY_MODELS: readonly MemoryModel[] = ['sc', 'tso'];

/** How an execution ended: nobody can go on, and all stores are in memory. */
export interface End {
  /** A named word. */
  word(name: string): number;
  /** What threads noted last; 0 if nothing. */
  note(name: string): number;
  /** Threads that wait in `sleep` or `awaitEnd`. */
  readonly asleep: readonly string[];
  readonly killed: readonly string[];
}

export interface Exploration {
  /** Words of a model with their first values. */
  readonly words?: Readonly<Record<string, number>>;
  /** Memory of product code, instead of `words`. */
  readonly memory?: SharedMemory;
  /** Prepares `memory`, once. It is zero before. */
  readonly setup?: () => void;
  /** A function is asked for new threads before each run of one, and may prepare private objects; always in the same way. */
  readonly threads: Threads | (() => Threads);
  /** Threads that may be killed before any of their accesses. What is in their store buffers still gets to memory. */
  readonly mortal?: readonly string[];
  /** Mistakes planted in code that has none: by name, words whose atomic stores are plain ones, or do not happen. */
  readonly planted?: { readonly plainStores?: readonly string[]; readonly lostStores?: readonly string[] };
  /** Called for every end, with `memory` as it is then; answers what is wrong. Default: nothing is. */
  readonly check?: (end: End) => string | undefined;
  /** Steps that others cannot see are taken together with the step before. Default true. */
  readonly isReduced?: boolean;
  /** Gives up after so many states. Default 1 000 000. */
  readonly stateLimit?: number;
}

export interface TraceStep {
  readonly thread: string;
  /** What it does, in words and with names. */
  readonly text: string;
}

export interface Failure {
  readonly message: string;
  /** A shortest one, in steps that others can see. */
  readonly trace: readonly TraceStep[];
}

export interface ExplorationResult {
  readonly memoryModel: MemoryModel;
  readonly threadCount: number;
  readonly stateCount: number;
  readonly transitionCount: number;
  /** Different ends. */
  readonly endCount: number;
  /** False when the limit was reached: nothing is proven then. */
  readonly isComplete: boolean;
  readonly failure: Failure | undefined;
}

/** The failure as lines of text: a column for each thread. */
export function formatFailure({ message, trace }: Failure): string {
  const threads = [...new Set(trace.map(({ thread }) => thread))];
  const width = Math.max(
    24,
    ...trace.map(({ text }) => text.length + 2),
    ...threads.map((t) => t.length + 2),
  );
  const line = (thread: string, text: string): string =>
    `${' '.repeat(width * threads.indexOf(thread))}${text}`.trimEnd();
  const head = threads.map((thread) => thread.padEnd(width)).join('');
  return [message, head.trimEnd(), ...trace.map(({ thread, text }) => line(thread, text))].join('\n');
}
