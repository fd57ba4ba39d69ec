import { linuxFfi } from '@virtlab/linux';
import { BLK_TEXT, runBlk } from './blk/blk-group.ts';
import type { BenchPlan } from './contender.ts';
import type { GroupName } from './group-names.ts';
import { NET_TEXT, runNet } from './net/net-group.ts';
import { NOTIFY_TEXT, runNotify } from './notify/notify-group.ts';
import type { ComparisonReport, GroupReport, GroupText } from './report/report.ts';
import { RING_TEXT, runRing } from './ring/ring-group.ts';
import { RING_PROCESSES_TEXT, runRingProcesses } from './ring-processes/ring-processes-group.ts';

interface Group {
  readonly text: GroupText;
  /** Memory that two processes share takes the native FFI. */
  readonly needsFfi: boolean;
  readonly run: (plan: BenchPlan) => Promise<ComparisonReport[]>;
}

const GROUPS: Readonly<Record<GroupName, Group>> = {
  ring: { text: RING_TEXT, needsFfi: false, run: runRing },
  'ring-processes': { text: RING_PROCESSES_TEXT, needsFfi: true, run: runRingProcesses },
  notify: { text: NOTIFY_TEXT, needsFfi: true, run: runNotify },
  blk: { text: BLK_TEXT, needsFfi: true, run: runBlk },
  net: { text: NET_TEXT, needsFfi: true, run: runNet },
};

/** Runs a group in this process. A group that this machine cannot run is reported as skipped. */
export async function runGroup(name: GroupName, plan: BenchPlan): Promise<GroupReport> {
  const { text, needsFfi, run } = GROUPS[name];
  const ffi = linuxFfi();
  if (needsFfi && !ffi.available) return { name, ...text, comparisons: [], skipped: ffi.reason };
  return { name, ...text, comparisons: await run(plan), skipped: undefined };
}

export function groupTitle(name: GroupName): string {
  return GROUPS[name].text.title;
}
