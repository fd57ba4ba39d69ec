import type { CurveReport } from './report/report.ts';

/** What one run of a contender did. Counts are of the whole run, both sides together. */
export interface RunResult {
  readonly operationCount: number;
  readonly elapsedNs: number;
  readonly doorbells?: DoorbellCounts | undefined;
  /** Processor time of all that took part, where the contender knows it better than `Contender.pids` would tell. */
  readonly cpuNs?: number | undefined;
  /** Whatever else was counted, by the heading of its column. */
  readonly counts?: Readonly<Record<string, number>> | undefined;
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
  /** Names of the peers that a ratio is made to. Default all of the comparison. */
  readonly beside?: readonly string[];
  /** Nanoseconds per operation that the design allows. */
  readonly budgetNs?: number | undefined;
  /** What somebody measured of the same thing elsewhere: nanoseconds, in words. */
  readonly published?: string | undefined;
  /** The processes, beside this one, that do the work: their processor time is counted. */
  readonly pids?: readonly number[] | undefined;
  /** Makes ready for `run` what others may have changed since; not measured. */
  prepare?(): Promise<void>;
  /** Does the operation so many times, or a few more; says how many and how long it took. */
  run(operationCount: number): RunResult | Promise<RunResult>;
}

/** Contenders that do the same work, taking turns. */
export interface Comparison {
  readonly title: string;
  /** What is counted as one, in words. */
  readonly operation: string;
  /** Bytes that one moves; the report then has operations and bytes for a second. */
  readonly operationSize?: number;
  readonly contenders: readonly Contender[];
  /** Of the plan's time for a run, where less is enough. Default 1. */
  readonly runShare?: number;
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
  /** A peer that this machine does not have: which, and what would bring it. */
  readonly onMissing: (peer: string) => void;
  /** A table that goes with the group's comparisons. */
  readonly onCurve: (curve: CurveReport) => void;
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
