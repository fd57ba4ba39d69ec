import { linuxFfi } from '@virtlab/linux';
import { describe, expect, it } from 'vitest';
import { DOORBELLS, PROCESS_TRANSPORTS, TRANSPORTS } from './grid.ts';
import { GridReport, readPage, samePage } from './report.ts';
import { runInProcesses, runInThread } from './run-grid.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const report = new GridReport();

describe('the grid', () => {
  it.for(TRANSPORTS)(
    '%s, in one process: every ring, device and doorbell',
    { timeout: 120_000 },
    async (transport, { skip }) => {
      if (transport === 'vhost-user' && !ffi.available) skip(ffi.reason);
      await expect(runInThread(transport, report)).resolves.toBeUndefined();
    },
  );

  describe.skipIf(!ffi.available).each(PROCESS_TRANSPORTS)('%s, between processes', (transport) => {
    it.each(DOORBELLS)('%s doorbells', { timeout: 120_000 }, async (doorbells) => {
      await expect(runInProcesses(transport, doorbells, report)).resolves.toBeUndefined();
    });
  });

  it.skipIf(!ffi.available)('docs/matrix.md says what was found (npm run matrix writes it)', () => {
    expect(samePage(report.render(), readPage()), 'the page is out of date').toBe(true);
  });
});
