import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GROUP_NAMES } from './group-names.ts';
import { runGroup } from './groups.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

describe.each(GROUP_NAMES)('group %s', (name) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-bench-test-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('measures ours and a peer in every comparison', async () => {
    const titles: string[] = [];
    const plan = { roundCount: 1, runMs: 0.5, folder, onProgress: (line: string) => void titles.push(line) };
    const report = await runGroup(name, plan);
    if (!ffi.available && name !== 'ring') {
      expect(report).toMatchObject({ comparisons: [], skipped: ffi.reason });
      return;
    }
    expect(report.skipped).toBeUndefined();
    expect(report.comparisons.map(({ title }) => title)).toEqual(titles);
    for (const { title, contenders } of report.comparisons) {
      const peers = contenders.filter(({ isPeer }) => isPeer);
      expect(peers.length, title).toBeGreaterThan(0);
      expect(contenders.length, title).toBeGreaterThan(peers.length);
      for (const { nsPerOperation, isPeer, against, doorbells } of contenders) {
        expect(nsPerOperation.sampleCount).toBe(1);
        expect(nsPerOperation.median).toBeGreaterThan(0);
        if (isPeer) continue;
        expect(against).toHaveLength(peers.length);
        for (const each of against) expect(each.ratio).toBeGreaterThan(0);
        expect(doorbells?.kicks).toBeGreaterThanOrEqual(0);
      }
    }
  });
});
