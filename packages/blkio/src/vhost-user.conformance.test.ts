import { VIRTIO_BLK_F_WRITE_ZEROES } from '@virtlab/abi/virtio-blk';
import { featureBit } from '@virtlab/abi/virtio';
import { describeWithFfi } from '@virtlab/linux/testing';
import { createBlkDevice, createBlkDriver, createMemoryBackend } from '@virtlab/virtio-blk';
import { StorageDaemon, describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeBlkio } from './conformance.ts';
import { openBlkio } from './open.ts';
import { withoutFeatures } from './testing/fewer-features.ts';
import { connectRig, serveRig } from './testing/vhost-user-rig.ts';

const CAPACITY = 1 << 20;

describeWithFfi('our own daemon', () => {
  for (const [name, withheld] of [
    ['with all commands', 0n],
    ['without write zeroes', featureBit(VIRTIO_BLK_F_WRITE_ZEROES)],
  ] as const) {
    describeBlkio({
      name: `our daemon, ${name}`,
      capacity: CAPACITY,
      create: () => {
        const backend = createMemoryBackend({ contents: CAPACITY });
        return serveRig(withoutFeatures(createBlkDevice({ backend, queueSize: 64 }), withheld));
      },
    });
  }

  it.each([
    ['asked for one queue', { queueCount: 1 }],
    ['without MQ', { protocolFeatures: ['CONFIG', 'REPLY_ACK'] }],
  ] as const)(
    '§5.2.4 num_queues beyond what the link offers, %s: both drivers use what it offers',
    async (_name, options) => {
      const device = createBlkDevice({
        backend: createMemoryBackend({ contents: CAPACITY }),
        queueCount: 4,
      });
      const rig = await serveRig(device, options);
      expect(rig.link.transport.queueCount).toBe(1);
      const disk = await openBlkio(rig.link, { aio: rig.aio, queueCount: 4 });
      expect(disk.queues).toHaveLength(1);
      await disk.queues[0]!.promises.flush();
      await disk.close();
      const driver = await createBlkDriver(rig.link, { aio: rig.aio, queueCount: 4 });
      expect(driver.queueStatistics).toHaveLength(1);
      await driver.write(0, new Uint8Array(512));
      await driver.close();
      expect(await rig.close()).toEqual([]);
    },
  );
});

describeWithStorageDaemon('qemu-storage-daemon', () => {
  let daemon: StorageDaemon;
  let fd: number;
  beforeAll(async () => {
    fd = memfdCreate('disk', CAPACITY, { seal: false });
    daemon = await StorageDaemon.startOnFile(`/proc/${process.pid}/fd/${fd}`);
  });
  afterAll(async () => {
    await daemon.kill();
    closeFd(fd);
  });
  describeBlkio({
    name: 'qemu-storage-daemon on a file',
    capacity: CAPACITY,
    create: () => connectRig({ path: daemon.path }),
  });
});
