import type { Summary } from '../statistics.ts';
import type { GroupName } from '../group-names.ts';

/** Doorbells for one operation, on average over all rounds. */
export interface PerOperation {
  readonly kicks: number;
  readonly calls: number;
  readonly wakeUps: number | undefined;
}

export interface ContenderReport {
  readonly name: string;
  readonly isPeer: boolean;
  readonly budgetNs: number | undefined;
  /** Measured elsewhere by somebody: nanoseconds, in words. */
  readonly published: string | undefined;
  readonly nsPerOperation: Summary;
  /** Ours over each peer that does the same; empty for peers. */
  readonly against: readonly { readonly peer: string; readonly ratio: number }[];
  readonly doorbells: PerOperation | undefined;
  /** Processor time for one operation, of all that took part, on average over all rounds. */
  readonly cpuNs: number | undefined;
  /** Other things counted, for one operation, by the heading of their column. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface ComparisonReport {
  readonly title: string;
  readonly operation: string;
  /** Bytes that one moves, where that is to be told. */
  readonly operationSize?: number | undefined;
  readonly contenders: readonly ContenderReport[];
}

/** Figures that are no comparison of contenders: how something grows. Cells are text; the first column names the row. */
export interface CurveReport {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** What a group is about, independent of any run. */
export interface GroupText {
  readonly title: string;
  /** How it is measured and what exactly is compared; paragraphs. */
  readonly method: readonly string[];
  /** Where the time goes, found by profiling; paragraphs. */
  readonly findings: readonly string[];
}

export interface GroupReport extends GroupText {
  readonly name: GroupName;
  readonly comparisons: readonly ComparisonReport[];
  readonly curves: readonly CurveReport[];
  /** Why the group could not be run here. */
  readonly skipped: string | undefined;
  /** Peers that were left out: which, and what would bring them. */
  readonly missing: readonly string[];
}

/** A group, and how the machine was while it ran. */
export interface MeasuredGroup extends GroupReport {
  /** Processor time that others took, over the processor time that there was; undefined where the system does not tell. */
  readonly othersShare: number | undefined;
}

/** The machine and its state; nothing that identifies it. */
export interface MachineReport {
  readonly cpuModel: string;
  readonly coreCount: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly node: string;
  readonly v8: string;
  /** Runnable tasks, mean over a minute, when the run began: what else wanted the cores. */
  readonly loadBefore: number;
  /** Of the processors' time in the second before the run; 0 to 1. */
  readonly idleShareBefore: number;
}

export interface BenchReport {
  readonly generatorVersion: number;
  readonly date: string;
  readonly machine: MachineReport;
  readonly roundCount: number;
  readonly runMs: number;
  readonly groups: readonly MeasuredGroup[];
}
