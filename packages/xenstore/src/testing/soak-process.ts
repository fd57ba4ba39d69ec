// The soak in a process of its own, started with --expose-gc. Arguments: seed, cycles, steps of each, profile. Prints one JSON object.
import { XENSTORE_PROFILES } from '../profiles.ts';
import { SoakLoad, type SoakRemains } from './soak-load.ts';
import type { SoakCounts } from './soak-client.ts';

export interface SoakReport {
  readonly start: SoakRemains;
  /** After each cycle, where it was different from what the one before left. */
  readonly remains: readonly SoakRemains[];
  /** Bytes used on the heap after each cycle and a full collection. */
  readonly heapSizes: readonly number[];
  readonly counts: SoakCounts;
  readonly elapsedMs: number;
}

const [seed, cycleCount, stepCount] = process.argv.slice(2).map(Number) as [number, number, number];
const profile = XENSTORE_PROFILES.get(process.argv[5] ?? 'c-4.17');
if (profile === undefined) throw new TypeError(`There is no profile ${process.argv[5]}`);

const began = performance.now();
const load = new SoakLoad(seed, profile);
const start = load.remains();
const remains: SoakRemains[] = [];
const heapSizes = new Float64Array(cycleCount); // what is measured must not grow by the measuring
let last = '';
for (let cycle = 0; cycle < cycleCount; cycle += 1) {
  const left = await load.cycle(stepCount);
  const text = JSON.stringify(left);
  if (text !== last) remains.push(left);
  last = text;
  globalThis.gc!();
  heapSizes[cycle] = process.memoryUsage().heapUsed;
}
const report: SoakReport = {
  start,
  remains,
  heapSizes: [...heapSizes],
  counts: load.counts,
  elapsedMs: performance.now() - began,
};
load.close();
process.stdout.write(`${JSON.stringify(report)}\n`);
