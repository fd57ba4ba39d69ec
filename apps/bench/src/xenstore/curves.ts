import type { BenchPlan } from '../contender.ts';
import { formatNs, formatRatio } from '../report/cells.ts';
import type { CurveReport } from '../report/report.ts';
import { summarize } from '../statistics.ts';
import type { Daemon } from './daemons.ts';
import type { LoadResult } from './load-client.ts';

const ROUNDS_MAX = 7;
/** Of the plan's time for a run: a curve needs no more. */
const RUN_SHARE = 0.5;
const FIRST_COUNT = 64;
/** They also find out how many operations fill a run. */
const WARM_UP_RUNS = 3;
/** What stands where a daemon did not come so far. */
export const NOT_REACHED = '–';

/** What happens between client and daemon: so many operations. */
export type CurveRun = (daemon: Daemon, count: number) => Promise<LoadResult>;

/**
 * Median nanoseconds for one operation of each daemon, in rounds in which they take turns; undefined stays undefined.
 * `countMin` operations at least are done in a run.
 */
export async function medianNs(
  daemons: readonly (Daemon | undefined)[],
  run: CurveRun,
  plan: BenchPlan,
  countMin: number = 1,
): Promise<(number | undefined)[]> {
  const lanes: ({ daemon: Daemon; count: number; samples: number[] } | undefined)[] = [];
  for (const daemon of daemons) {
    if (daemon === undefined) {
      lanes.push(undefined);
      continue;
    }
    let count = Math.max(FIRST_COUNT, countMin);
    for (let warmUp = 0; warmUp < WARM_UP_RUNS; warmUp += 1) {
      const { elapsedNs, operationCount } = await run(daemon, count);
      const wanted = Math.round((plan.runMs * RUN_SHARE * 1e6) / (elapsedNs / operationCount));
      count = Math.max(wanted, countMin);
    }
    lanes.push({ daemon, count, samples: [] });
  }
  for (let round = 0; round < Math.min(plan.roundCount, ROUNDS_MAX); round += 1) {
    for (const lane of lanes) {
      if (lane === undefined) continue;
      const { elapsedNs, operationCount } = await run(lane.daemon, lane.count);
      lane.samples.push(elapsedNs / operationCount);
    }
  }
  return lanes.map((lane) => (lane === undefined ? undefined : summarize(lane.samples).median));
}

/** One line of a curve: nanoseconds of each daemon, ours first. */
export interface CurvePoint {
  readonly at: string;
  readonly ns: readonly (number | undefined)[];
}

/** Daemons side by side, with our ratio to each other one. */
export function costCurve(
  title: string,
  axis: string,
  daemons: readonly Daemon[],
  points: readonly CurvePoint[],
): CurveReport {
  const [ours, ...peers] = daemons.map(({ name }) => name);
  return {
    title,
    head: [axis, ours!, ...peers, ...peers.map((peer) => `÷ ${peer}`)],
    rows: points.map(({ at, ns }) => [
      at,
      ...ns.map((each) => (each === undefined ? NOT_REACHED : formatNs(each))),
      ...ns
        .slice(1)
        .map((each) => (each === undefined || ns[0] === undefined ? NOT_REACHED : formatRatio(ns[0] / each))),
    ]),
  };
}

export function formatNumber(count: number): string {
  return count.toLocaleString('en');
}
