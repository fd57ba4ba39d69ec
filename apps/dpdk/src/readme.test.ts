import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { runReadmeExample } from '@virtlab/readme-example';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createNetDriver } from '@virtlab/virtio-net';
import { expect, it } from 'vitest';
import { startTestpmd } from './index.ts';
import { describeWithTestpmd } from './testing/describe-with-testpmd.ts';
import { experiment, withMacsSwapped } from './testing/frames.ts';

describeWithTestpmd('README', () => {
  it('the usage works as it stands', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'virtlab-dpdk-'));
    const path = join(folder, 'net.sock');
    const frame = experiment(100, 1);
    const aio = createNodeAioContext();
    const scope = { startTestpmd, connectVhostUser, createNetDriver, VIRTIO_ID_NET, aio, frame, path };
    const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), { scope });
    expect(printed).toEqual([
      [withMacsSwapped(frame)],
      [[{ port: 0, rxPackets: 1, rxDropped: 0, txPackets: 1, txDropped: 0 }]],
    ]);
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });
});
