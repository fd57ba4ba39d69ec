import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createNodeAioContext } from '@virtlab/aio/node';
import { UnixStreamServer } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { createLearningSwitch } from '@virtlab/virtio-net';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Report } from './report.ts';
import { StreamJoin } from './stream-join.ts';

let folder = '';
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'virtlab-'))));
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

describeWithFfi('a stream that joins the switch', () => {
  it('connects also where somebody began to listen after it had found nobody', () => {
    const path = join(folder, 'socket');
    const aio = createNodeAioContext();
    const reports: Report[] = [];
    const listen = UnixStreamServer.listen;
    let other: UnixStreamServer | undefined;
    vi.spyOn(UnixStreamServer, 'listen').mockImplementationOnce((...args) => {
      other = listen(path, (stream) => stream.close());
      return listen(...args);
    });
    const network = createLearningSwitch();
    const joined = new StreamJoin({ path, network, aio, report: (report) => void reports.push(report) });
    expect(reports).toEqual([{ event: 'joined', port: `${path} #1`, reason: undefined }]);
    joined[Symbol.dispose]();
    other!.close();
    aio[Symbol.dispose]();
  });

  it('does not take a file for a socket', () => {
    const aio = createNodeAioContext();
    const network = createLearningSwitch();
    const start = (): StreamJoin => new StreamJoin({ path: folder, network, aio, report: () => {} });
    expect(start).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
    aio[Symbol.dispose]();
  });
});
