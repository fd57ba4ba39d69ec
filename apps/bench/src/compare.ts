import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BenchPlan, Comparison, Contender, DoorbellCounts, RunResult } from './contender.ts';
import { cpuNsOf } from './cpu-meter.ts';
import type { ComparisonReport, ContenderReport, PerOperation } from './report/report.ts';
import { ratio, summarize } from './statistics.ts';

/** The first run of a calibration is of one operation; they grow until a run takes long enough. */
const GROWTH_MAX = 16;
const WARM_UP_MIN = 4;
const WARM_UP_MAX = 16;
const COUNT_MAX = 1e9;

interface Lane {
  readonly contender: Contender;
  readonly operationCount: number;
  readonly samples: number[];
  readonly results: RunResult[];
}

/**
 * Measures all contenders in the same stretch of time: after a warm-up, which also finds how many operations fill a run, they
 * take turns, each round beginning with the next one, so that none always runs in the wake of the same other.
 */
export async function compare(comparison: Comparison, plan: BenchPlan): Promise<ComparisonReport> {
  const { title, operation, operationSize, contenders, runShare = 1 } = comparison;
  const lanes: Lane[] = [];
  for (const contender of contenders) {
    const operationCount = await calibrate(contender, plan.runMs * runShare * 1e6);
    lanes.push({ contender, operationCount, samples: [], results: [] });
  }
  for (let round = 0; round < plan.roundCount; round += 1) {
    for (let turn = 0; turn < lanes.length; turn += 1) {
      const lane = lanes[(round + turn) % lanes.length]!;
      await nextTurn();
      const result = await runMetered(lane.contender, lane.operationCount);
      lane.results.push(result);
      lane.samples.push(result.elapsedNs / result.operationCount);
    }
  }
  plan.onProgress(title);
  return { title, operation, operationSize, contenders: reports(lanes) };
}

/** With the processor time of this process and those of the contender, which is exact once they have gone to sleep. */
async function runMetered(contender: Contender, operationCount: number): Promise<RunResult> {
  await contender.prepare?.();
  if (contender.pids === undefined) return await contender.run(operationCount);
  const pids = [process.pid, ...contender.pids];
  const before = cpuNsOf(pids);
  const result = await contender.run(operationCount);
  const after = cpuNsOf(pids);
  return before === undefined || after === undefined ? result : { cpuNs: after - before, ...result };
}

/**
 * Runs a contender until its code is warm; how many operations take `targetNs`. The best rate decides: the first runs also
 * load and compile.
 */
async function calibrate(contender: Contender, targetNs: number): Promise<number> {
  let operationCount = 1;
  let bestNs = Infinity;
  await contender.prepare?.();
  for (let runs = 1; ; runs += 1) {
    await nextTurn();
    const result = await contender.run(operationCount);
    bestNs = Math.min(bestNs, result.elapsedNs / result.operationCount);
    const wanted = Math.max(1, Math.round(targetNs / bestNs));
    const isLongEnough = result.elapsedNs >= targetNs / 2 && result.operationCount >= wanted / 2;
    if ((isLongEnough && runs >= WARM_UP_MIN) || runs === WARM_UP_MAX) return wanted;
    operationCount = Math.min(wanted, operationCount * GROWTH_MAX, COUNT_MAX);
  }
}

function reports(lanes: readonly Lane[]): ContenderReport[] {
  const summaries = lanes.map(({ samples }) => summarize(samples));
  const peers = lanes.flatMap(({ contender }, index) =>
    contender.isPeer ? [{ name: contender.name, summary: summaries[index]! }] : [],
  );
  return lanes.map(({ contender, results }, index) => {
    const { name, isPeer, budgetNs, published, beside } = contender;
    const nsPerOperation = summaries[index]!;
    const against = isPeer
      ? []
      : peers
          .filter((peer) => beside?.includes(peer.name) ?? true)
          .map((peer) => ({ peer: peer.name, ratio: ratio(nsPerOperation, peer.summary) }));
    return {
      name,
      isPeer,
      budgetNs,
      published,
      nsPerOperation,
      against,
      doorbells: doorbellsPerOperation(results),
      cpuNs: cpuPerOperation(results),
      counts: countsPerOperation(results),
    };
  });
}

function cpuPerOperation(results: readonly RunResult[]): number | undefined {
  if (results.some(({ cpuNs }) => cpuNs === undefined)) return undefined;
  return (
    results.reduce((sum, { cpuNs }) => sum + cpuNs!, 0) /
    results.reduce((sum, { operationCount }) => sum + operationCount, 0)
  );
}

function countsPerOperation(results: readonly RunResult[]): Readonly<Record<string, number>> {
  const operations = results.reduce((sum, { operationCount }) => sum + operationCount, 0);
  const sums: Record<string, number> = {};
  for (const { counts = {} } of results)
    for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count / operations;
  return sums;
}

function doorbellsPerOperation(results: readonly RunResult[]): PerOperation | undefined {
  const counted = results.flatMap(({ doorbells }) => (doorbells === undefined ? [] : [doorbells]));
  if (counted.length === 0) return undefined;
  const operations = results.reduce((sum, { operationCount }) => sum + operationCount, 0);
  const mean = (pick: (counts: DoorbellCounts) => number): number =>
    counted.reduce((sum, counts) => sum + pick(counts), 0) / operations;
  return {
    kicks: mean(({ kicks }) => kicks),
    calls: mean(({ calls }) => calls),
    wakeUps: counted[0]!.wakeUps === undefined ? undefined : mean(({ wakeUps }) => wakeUps ?? 0),
  };
}
