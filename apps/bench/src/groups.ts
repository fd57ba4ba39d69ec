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
import type { ComparisonReport, CurveReport, GroupReport, GroupText } from './report/report.ts';
import { RING_PACKED_TEXT, RING_TEXT, runRing, runRingPacked } from './ring/ring-group.ts';
import { RING_PROCESSES_TEXT, runRingProcesses } from './ring-processes/ring-processes-group.ts';
import { TRAP_TEXT, runTrap } from './trap/trap-group.ts';
import { VHOST_USER_BLK_TEXT, runVhostUserBlk } from './vhost-user/blk-group.ts';
import { guestMissing } from './vhost-user/guest-clock.ts';
import { VHOST_USER_GUEST_TEXT, runVhostUserGuest } from './vhost-user/guest-group.ts';
import { VHOST_USER_NET_TEXT, runVhostUserNet } from './vhost-user/net-group.ts';
import { loadClientMissing } from './xenstore/load-client.ts';
import { XENSTORE_TEXT, runXenstore } from './xenstore/xenstore-group.ts';

interface Group {
  readonly text: GroupText;
  /** Memory that two processes share takes the native FFI. */
  readonly needsFfi: boolean;
  /** What else this machine lacks, if anything. */
  readonly missing?: () => string | undefined;
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
  xenstore: { text: XENSTORE_TEXT, needsFfi: false, missing: loadClientMissing, run: runXenstore },
  blk: { text: BLK_TEXT, needsFfi: true, run: runBlk },
  'blk-features': { text: BLK_FEATURES_TEXT, needsFfi: true, run: runBlkFeatures },
  net: { text: NET_TEXT, needsFfi: true, run: runNet },
  'net-features': { text: NET_FEATURES_TEXT, needsFfi: true, run: runNetFeatures },
  'vhost-user-blk': { text: VHOST_USER_BLK_TEXT, needsFfi: true, run: runVhostUserBlk },
  'vhost-user-guest': {
    text: VHOST_USER_GUEST_TEXT,
    needsFfi: true,
    missing: guestMissing,
    run: runVhostUserGuest,
  },
  'vhost-user-net': { text: VHOST_USER_NET_TEXT, needsFfi: true, run: runVhostUserNet },
};

/** Why this machine cannot run the group; undefined if it can. */
export function unavailable(name: GroupName): string | undefined {
  const { needsFfi, missing } = GROUPS[name];
  const ffi = linuxFfi();
  return needsFfi && !ffi.available ? ffi.reason : missing?.();
}

/** Runs a group in this process. A group that this machine cannot run is reported as skipped. */
export async function runGroup(
  name: GroupName,
  plan: Omit<BenchPlan, 'onMissing' | 'onCurve'>,
): Promise<GroupReport> {
  const { text, run } = GROUPS[name];
  const skipped = unavailable(name);
  if (skipped !== undefined) return { name, ...text, comparisons: [], curves: [], skipped, missing: [] };
  const missing = new Set<string>();
  const curves: CurveReport[] = [];
  const comparisons = await run({
    ...plan,
    onMissing: (peer) => void missing.add(peer),
    onCurve: (curve) => void curves.push(curve),
  });
  return { name, ...text, comparisons, curves, skipped, missing: [...missing] };
}

export function groupTitle(name: GroupName): string {
  return GROUPS[name].text.title;
}
