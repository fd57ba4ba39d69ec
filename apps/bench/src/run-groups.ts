import { startChild } from './child.ts';
import type { GroupQuestion } from './group-process.ts';
import type { GroupName } from './group-names.ts';
import type { BenchReport, GroupReport } from './report/report.ts';
import { describeMachine } from './report/machine.ts';

/** Raised whenever what is measured or how it is written changes, so that figures of two pages can be told apart. */
export const GENERATOR_VERSION = 1;

export interface RunOptions {
  readonly groups: readonly GroupName[];
  readonly roundCount: number;
  readonly runMs: number;
  readonly onProgress: (line: string) => void;
}

/** Runs groups one after the other. Rejects with what went wrong in one. */
export async function runGroups({ groups, roundCount, runMs, onProgress }: RunOptions): Promise<BenchReport> {
  const machine = describeMachine();
  const date = new Date().toISOString().slice(0, 10);
  const reports: GroupReport[] = [];
  for (const name of groups) {
    await using child = startChild('group-process', [], [], (line) => onProgress(`${name}: ${line}`));
    const question: GroupQuestion = { name, roundCount, runMs };
    reports.push((await child.ask(question)) as GroupReport);
  }
  return { generatorVersion: GENERATOR_VERSION, date, machine, roundCount, runMs, groups: reports };
}
