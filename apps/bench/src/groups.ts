import { linuxFfi } from '@virtlab/linux';
import { BLK_FEATURES_TEXT, runBlkFeatures } from './blk/blk-features-group.ts';
import { BLK_TEXT, runBlk } from './blk/blk-group.ts';
import type { BenchPlan } from './contender.ts';
import { CONTROL_TEXT, runControl } from './control/control-group.ts';
import { EVENTS_TEXT, runEvents } from './events/events-group.ts';
import { GRANTS_TEXT, runGrants } from './grants/grants-group.ts';
import type { GroupName } from './group-names.ts';
import { NET_FEATURES_TEXT, runNetFeatures } from './net/net-features-group.ts';
import { NET_TEXT, runNet } from './net/net-group.ts';
import { NOTIFY_TEXT, runNotify } from './notify/notify-group.ts';
import type { ComparisonReport, GroupReport, GroupText } from './report/report.ts';
import { RING_PACKED_TEXT, RING_TEXT, runRing, runRingPacked } from './ring/ring-group.ts';
import { RING_PROCESSES_TEXT, runRingProcesses } from './ring-processes/ring-processes-group.ts';
import { TRAP_TEXT, runTrap } from './trap/trap-group.ts';

interface Group {
  readonly text: GroupText;
  /** Memory that two processes share takes the native FFI. */
  readonly needsFfi: boolean;
  readonly run: (plan: BenchPlan) => Promise<ComparisonReport[]>;
}

const GROUPS: Readonly<Record<GroupName, Group>> = {
  ring: { text: RING_TEXT, needsFfi: false, run: runRing },
  'ring-packed': { text: RING_PACKED_TEXT, needsFfi: false, run: runRingPacked },
  'ring-processes': { text: RING_PROCESSES_TEXT, needsFfi: true, run: runRingProcesses },
  notify: { text: NOTIFY_TEXT, needsFfi: true, run: runNotify },
  events: { text: EVENTS_TEXT, needsFfi: false, run: runEvents },
  grants: { text: GRANTS_TEXT, needsFfi: false, run: runGrants },
  trap: { text: TRAP_TEXT, needsFfi: true, run: runTrap },
  control: { text: CONTROL_TEXT, needsFfi: true, run: runControl },
  blk: { text: BLK_TEXT, needsFfi: true, run: runBlk },
  'blk-features': { text: BLK_FEATURES_TEXT, needsFfi: true, run: runBlkFeatures },
  net: { text: NET_TEXT, needsFfi: true, run: runNet },
  'net-features': { text: NET_FEATURES_TEXT, needsFfi: true, run: runNetFeatures },
};

/** Runs a group in this process. A group that this machine cannot run is reported as skipped. */
export async function runGroup(name: GroupName, plan: Omit<BenchPlan, 'onMissing'>): Promise<GroupReport> {
  const { text, needsFfi, run } = GROUPS[name];
  const ffi = linuxFfi();
  if (needsFfi && !ffi.available) return { name, ...text, comparisons: [], skipped: ffi.reason, missing: [] };
  const missing = new Set<string>();
  const comparisons = await run({ ...plan, onMissing: (peer) => void missing.add(peer) });
  return { name, ...text, comparisons, skipped: undefined, missing: [...missing] };
}

export function groupTitle(name: GroupName): string {
  return GROUPS[name].text.title;
}
