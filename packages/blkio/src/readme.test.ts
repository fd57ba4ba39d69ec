import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runReadmeExample } from '@virtlab/readme-example';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { StorageDaemon, describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { expect, it } from 'vitest';

describeWithStorageDaemon('README', () => {
  it('the usage works as it stands', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'virtlab-blkio-'));
    const fd = memfdCreate('disk', 1 << 20, { seal: false });
    const path = join(directory, 'blk.sock');
    const daemon = await StorageDaemon.startOnFile(`/proc/${process.pid}/fd/${fd}`, { path });
    const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), {
      load: (name) => import(name),
      scope: { path },
      result: 'aio[Symbol.dispose]()',
    });
    expect(printed).toEqual([
      [16, 'hello'],
      [1, 99, 0],
    ]);
    await daemon.kill();
    closeFd(fd);
    rmSync(directory, { recursive: true });
  });
});
