import type { BenchPlan } from '../contender.ts';
import type { CurveReport } from '../report/report.ts';
import { type CurvePoint, NOT_REACHED, costCurve, formatNumber, medianNs } from './curves.ts';
import { type Daemon, residentSize } from './daemons.ts';
import type { LoadClient } from './load-client.ts';

const SIZES = [1000, 10_000, 100_000, 1_000_000];
const BRIEF_SIZES = [1000];
const DEPTH = 16;
const FILL_STEP = 10_000;
/** A daemon that would need longer to get to a size is not taken there; so many steps tell its pace. */
const FILL_MS = 25_000;
const PACE_STEPS = 3;

interface Memory {
  readonly heapUsedSize: number | undefined;
  readonly residentSize: number;
}

/** What a daemon occupies at each size, the empty one first. */
interface Growth {
  readonly daemon: Daemon;
  readonly memory: (Memory | undefined)[];
  filledCount: number;
}

/** Write, start of a transaction and memory, by the number of nodes in the store. The daemons grow. */
export async function sizeCurves(
  client: LoadClient,
  daemons: readonly Daemon[],
  plan: BenchPlan,
): Promise<CurveReport[]> {
  const sizes = plan.isBrief === true ? BRIEF_SIZES : SIZES;
  const growths: Growth[] = [];
  for (const daemon of daemons) growths.push({ daemon, memory: [await memoryOf(daemon)], filledCount: 0 });
  const writes: CurvePoint[] = [];
  const starts: CurvePoint[] = [];
  for (const size of sizes) {
    const reached: (Daemon | undefined)[] = [];
    for (const growth of growths) {
      const isThere = await fill(client, growth, size);
      growth.memory.push(isThere ? await memoryOf(growth.daemon) : undefined);
      reached.push(isThere ? growth.daemon : undefined);
    }
    const at = formatNumber(size);
    const measure = async (what: 'write' | 'start'): Promise<CurvePoint> => ({
      at,
      ns: await medianNs(
        reached,
        ({ socketPath }, count) => client.ask(socketPath, what, DEPTH, count),
        plan,
      ),
    });
    writes.push(await measure('write'));
    starts.push(await measure('start'));
  }
  return [
    costCurve(`WRITE by size of the store, ${DEPTH} at once`, 'nodes', daemons, writes),
    costCurve(`Transaction start and abort by size of the store, ${DEPTH} at once`, 'nodes', daemons, starts),
    memoryCurve(sizes, growths),
  ];
}

async function memoryOf(daemon: Daemon): Promise<Memory> {
  const heapUsedSize = await daemon.heapUsedSize();
  return { heapUsedSize, residentSize: residentSize(daemon) };
}

/** Whether the daemon came to `size` nodes, at a pace that gets there in time. */
async function fill(client: LoadClient, growth: Growth, size: number): Promise<boolean> {
  const first = growth.filledCount;
  let elapsedMs = 0;
  for (let step = 1; growth.filledCount < size; step += 1) {
    const end = Math.min(growth.filledCount + FILL_STEP, size);
    const { elapsedNs } = await client.fill(growth.daemon.socketPath, growth.filledCount, end);
    growth.filledCount = end;
    elapsedMs += elapsedNs / 1e6;
    const wholeMs = (elapsedMs * (size - first)) / (end - first);
    if (end < size && step >= PACE_STEPS && wholeMs > FILL_MS) return false;
  }
  return growth.filledCount === size;
}

/** Nodes there are when so many were filled in: with their directories, 100 nodes in each. */
function nodeCount(filled: number): number {
  return 1 + [1, 100, 10_000, 1_000_000].reduce((sum, share) => sum + Math.ceil(filled / share), 0);
}

function memoryCurve(sizes: readonly number[], growths: readonly Growth[]): CurveReport {
  const columns = growths.flatMap(({ daemon, memory }) => {
    const pick = (which: keyof Memory): (number | undefined)[] => memory.map((each) => each?.[which]);
    const resident = { head: `${daemon.name}, resident`, sizes: pick('residentSize') };
    const heap = { head: `${daemon.name}, heap`, sizes: pick('heapUsedSize') };
    return heap.sizes[0] === undefined ? [resident] : [heap, resident];
  });
  return {
    title: 'Memory for one node',
    head: ['nodes', ...columns.map(({ head }) => head)],
    rows: [
      ['empty, in all', ...columns.map((column) => `${(column.sizes[0]! / 2 ** 20).toFixed(1)} MiB`)],
      ...sizes.map((size, index) => [
        formatNumber(size),
        ...columns.map((column) => {
          const found = column.sizes[index + 1];
          return found === undefined
            ? NOT_REACHED
            : `${((found - column.sizes[0]!) / nodeCount(size)).toFixed(0)} B`;
        }),
      ]),
    ],
  };
}
