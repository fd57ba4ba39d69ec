import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GROUP_NAMES } from './group-names.ts';
import { runGroup, unavailable } from './groups.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

/** What is measured there has no doorbells, or somebody else's driver rings them. */
const WITHOUT_DOORBELLS: ReadonlySet<string> = new Set(['xenstore', 'vhost-user-guest', 'vhost-user-net']);
/** Daemons, testpmd and virtual machines are started. */
const TIMEOUT_MS = 180_000;

describe.each(GROUP_NAMES)('group %s', (name) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-bench-test-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it(
    'measures ours and a peer in every comparison, or says why it cannot be run here',
    async () => {
      const canRun = unavailable(name) === undefined;
      const titles: string[] = [];
      const onProgress = (line: string): void => void titles.push(line);
      const plan = { roundCount: 1, runMs: 0.5, isBrief: true, folder, onProgress };
      const { comparisons, skipped, missing } = await runGroup(name, plan);
      expect(skipped === undefined).toBe(canRun);
      expect(comparisons.length > 0).toBe(canRun);
      expect(comparisons.map(({ title }) => title)).toEqual(titles);
      for (const { contenders } of comparisons) {
        const peers = contenders.filter(({ isPeer }) => isPeer);
        expect(peers.length + missing.length).toBeGreaterThan(0);
        expect(contenders.length).toBeGreaterThan(peers.length);
        for (const { nsPerOperation } of contenders) {
          expect(nsPerOperation.sampleCount).toBe(1);
          expect(nsPerOperation.median).toBeGreaterThan(0);
        }
        for (const { against, doorbells } of contenders.filter(({ isPeer }) => !isPeer)) {
          expect(against.length + missing.length).toBeGreaterThan(0);
          expect(peers.map((each) => each.name)).toEqual(
            expect.arrayContaining(against.map(({ peer }) => peer)),
          );
          for (const each of against) expect(each.ratio).toBeGreaterThan(0);
          expect(doorbells !== undefined || WITHOUT_DOORBELLS.has(name)).toBe(true);
          if (doorbells === undefined) continue;
          expect(doorbells.kicks).toBeGreaterThanOrEqual(0);
          expect(doorbells.calls).toBeGreaterThanOrEqual(0);
        }
      }
    },
    TIMEOUT_MS,
  );
});
