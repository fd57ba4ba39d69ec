import { VIRTIO_BLK_F_WRITE_ZEROES } from '@virtlab/abi/virtio-blk';
import { featureBit } from '@virtlab/abi/virtio';
import { describeWithFfi } from '@virtlab/linux/testing';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { StorageDaemon, describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { afterAll, beforeAll } from 'vitest';
import { describeBlkio } from './conformance.ts';
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
