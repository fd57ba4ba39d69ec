import { featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';
import { createAioContext } from '@virtlab/aio';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { createMemoryBench } from '@virtlab/virtio/conformance';
import { describeBlkio } from './conformance.ts';
import { withoutFeatures } from './testing/fewer-features.ts';

const CAPACITY = 512 * 1024;

for (const [name, withheld] of [
  ['with all commands', 0n],
  [
    'without discard, write zeroes and flush',
    featureBits(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE),
  ],
] as const) {
  describeBlkio({
    name: `our own device in memory, ${name}`,
    capacity: CAPACITY,
    create: async () => {
      const backend = createMemoryBackend({ contents: CAPACITY });
      const device = withoutFeatures(createBlkDevice({ backend, queueSize: 64 }), withheld);
      const aio = createAioContext();
      const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
      const bench = createMemoryBench({
        device,
        loops: { driverAio: aio, deviceAio: aio, settle },
      });
      return { link: bench.link, aio, close: () => bench.close() };
    },
  });
}
