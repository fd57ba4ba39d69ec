import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { SoakReport } from '../testing/soak-process.ts';

const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const SEED = Number(process.env['VIRTLAB_SEED'] ?? 1);
const STEP_COUNT = 4000;
const MEASURED_COUNT = Math.max(3, Math.round(3 * CAMPAIGN));
/** The first cycles compile code and fill tables of bounded size, which takes some hundred cycles to its end. */
const WARM_UP_COUNT = 3 + Math.floor(MEASURED_COUNT / 10);
const CYCLE_COUNT = WARM_UP_COUNT + MEASURED_COUNT;
/** What the heap may have grown by at the end, whatever the number of cycles: code, and what the runtime keeps. */
const GROWTH_MAX = 2 ** 20;
/**
 * oxenstored forgets to give back nodes whose creation and removal met in concurrent transactions (`Quota.merge`), and so
 * do we: its accounts need not come back.
 */
const UNACCOUNTED = { use: expect.any(String) as string };
const PROGRAM = fileURLToPath(new URL('../testing/soak-process.ts', import.meta.url));

it.each(['c-4.17', 'c-head', 'oxenstored'])(
  `profile %s under mixed load (seed ${SEED}): what everybody left is gone, and memory returns to its start`,
  { timeout: 20_000 * Math.max(1, CAMPAIGN) },
  async (profile) => {
    const parameters = ['--expose-gc', '--conditions=@virtlab/source', PROGRAM];
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [...parameters, ...[SEED, CYCLE_COUNT, STEP_COUNT, profile].map(String)],
      { maxBuffer: 2 ** 28 },
    );
    const { start, remains, heapSizes, counts, elapsedMs } = JSON.parse(stdout) as SoakReport;
    expect(counts.requestCount).toBeGreaterThan(CYCLE_COUNT * STEP_COUNT * 0.4);
    for (const count of [counts.errorCount, counts.eventCount, counts.abortedCount])
      expect(count).toBeGreaterThan(0);
    expect(start.contradictions).toEqual([]);
    const expected = { ...start, ...(profile === 'oxenstored' ? UNACCOUNTED : {}) };
    for (const left of remains) expect(left).toEqual(expected);
    const growth = Math.min(...heapSizes.slice(-2)) - heapSizes[WARM_UP_COUNT - 1]!;
    expect(growth, `heap after each cycle: ${heapSizes.join(' ')}`).toBeLessThan(GROWTH_MAX);
    if (CAMPAIGN > 1) {
      const minutes = (elapsedMs / 60_000).toFixed(1);
      const peak = Math.max(...heapSizes.slice(WARM_UP_COUNT)) - heapSizes[WARM_UP_COUNT - 1]!;
      console.log(
        `${profile}: ${minutes} min, ${JSON.stringify(counts)}, heap grew by ${growth} B (most: ${peak} B)`,
      );
    }
  },
);
