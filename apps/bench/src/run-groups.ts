import { startChild } from './child.ts';
import type { GroupQuestion } from './group-process.ts';
import type { GroupName } from './group-names.ts';
import { startOtherLoad } from './report/other-load.ts';
import type { BenchReport, GroupReport, MeasuredGroup } from './report/report.ts';
import { describeMachine } from './report/machine.ts';

/** Raised whenever what is measured or how it is written changes, so that figures of two pages can be told apart. */
export const GENERATOR_VERSION = 5;

export interface RunOptions {
  readonly groups: readonly GroupName[];
  readonly roundCount: number;
  readonly runMs: number;
  readonly onProgress: (line: string) => void;
}

/** Runs groups one after the other. Rejects with what went wrong in one. */
export async function runGroups({ groups, roundCount, runMs, onProgress }: RunOptions): Promise<BenchReport> {
  const machine = await describeMachine();
  const date = new Date().toISOString().slice(0, 10);
  const reports: MeasuredGroup[] = [];
  for (const name of groups) {
    const othersShare = startOtherLoad();
    const report = await runInProcess({ name, roundCount, runMs }, onProgress);
    reports.push({ ...report, othersShare: othersShare() });
  }
  return { generatorVersion: GENERATOR_VERSION, date, machine, roundCount, runMs, groups: reports };
}

async function runInProcess(
  question: GroupQuestion,
  onProgress: RunOptions['onProgress'],
): Promise<GroupReport> {
  await using child = startChild('group-process', [], [], (line) => onProgress(`${question.name}: ${line}`));
  return (await child.ask(question)) as GroupReport;
}
