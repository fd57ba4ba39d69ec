/** A device's process: `device-program.ts <kind> <detail> <socket path>...`, until it is ended. */
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { createNodeAioContext } from '@virtlab/aio/node';
import { listenVhostUser, serveVhostUser } from '@virtlab/vhost-user';
import { DeviceHost, type VirtioDevice } from '@virtlab/virtio';
import { createBlkDevice, createMemoryBackend, createNullBackend } from '@virtlab/virtio-blk';
import { openRawFileBackend } from '@virtlab/virtio-blk/node';
import { createLearningSwitch, createNetDevice } from '@virtlab/virtio-net';
import { createRngDevice } from '@virtlab/virtio-rng';

const [kind, detail, ...paths] = process.argv.slice(2) as [string, string, ...string[]];
const QUEUE_COUNT = 4;
const network = createLearningSwitch();
const aio = createNodeAioContext();

async function makeDevice(index: number): Promise<VirtioDevice> {
  switch (kind) {
    case 'blk':
      return createBlkDevice({
        backend: await openRawFileBackend({ path: detail }),
        queueCount: QUEUE_COUNT,
        serial: 'two-processes',
      });
    case 'memory':
      return createBlkDevice({
        backend: createMemoryBackend({ contents: Number(detail) * VIRTIO_BLK_SECTOR_SIZE }),
      });
    case 'null':
      return createBlkDevice({ backend: createNullBackend({ capacitySectors: Number(detail) }) });
    case 'net': {
      const mac = Uint8Array.of(2, 0, 0, 0, 0, index + 1);
      return createNetDevice({ mac, port: network.addPort(`card ${index}`) });
    }
    case 'rng':
      return createRngDevice();
    default:
      throw new TypeError(`Unknown kind of device ${kind}`);
  }
}

for (const [index, path] of paths.entries()) {
  const host = new DeviceHost({ device: await makeDevice(index), aio });
  listenVhostUser({ path, serve: (stream) => serveVhostUser(stream, { host, aio }) });
}
