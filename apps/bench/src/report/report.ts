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
  readonly nsPerOperation: Summary;
  /** Ours over each peer of the comparison; empty for peers. */
  readonly against: readonly { readonly peer: string; readonly ratio: number }[];
  readonly doorbells: PerOperation | undefined;
}

export interface ComparisonReport {
  readonly title: string;
  readonly operation: string;
  readonly contenders: readonly ContenderReport[];
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
  /** Why the group could not be run here. */
  readonly skipped: string | undefined;
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
}

export interface BenchReport {
  readonly generatorVersion: number;
  readonly date: string;
  readonly machine: MachineReport;
  readonly roundCount: number;
  readonly runMs: number;
  readonly groups: readonly GroupReport[];
}
