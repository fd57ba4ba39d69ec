/** What one run of a contender did. Counts are of the whole run, both sides together. */
export interface RunResult {
  readonly operationCount: number;
  readonly elapsedNs: number;
  readonly doorbells?: DoorbellCounts | undefined;
}

export interface DoorbellCounts {
  /** Driver to device, and device to driver: asked for by the ring. */
  readonly kicks: number;
  readonly calls: number;
  /** Kicks and calls that needed a system call, where that is counted. */
  readonly wakeUps?: number | undefined;
}

/** One way to do the work of a comparison: ours, or somebody else's. */
export interface Contender {
  readonly name: string;
  readonly isPeer: boolean;
  /** Nanoseconds per operation that the design allows. */
  readonly budgetNs?: number | undefined;
  /** Does the operation so many times, or a few more; says how many and how long it took. */
  run(operationCount: number): RunResult | Promise<RunResult>;
}

/** Contenders that do the same work, taking turns. */
export interface Comparison {
  readonly title: string;
  /** What is counted as one, in words. */
  readonly operation: string;
  readonly contenders: readonly Contender[];
}

/** What a group is given: how long to measure, and where temporary files may be. */
export interface BenchPlan {
  /** Rounds; in each every contender runs once. */
  readonly roundCount: number;
  /** How long one run should take. */
  readonly runMs: number;
  /** Leave out what is the same again with another backend. Default false. */
  readonly isBrief?: boolean;
  /** Exists, empty, and is removed by whoever made it. */
  readonly folder: string;
  readonly onProgress: (line: string) => void;
}

/** Nanoseconds that `work` took. */
export function timeNs(work: () => void): number {
  const start = performance.now();
  work();
  return elapsedNs(start);
}

/** Nanoseconds since `start`, a reading of `performance.now`; at least what the clock can tell apart. */
export function elapsedNs(start: number): number {
  return Math.max((performance.now() - start) * 1e6, 1);
}
