import { createAioContext } from '@virtlab/aio';
import { createMemoryBench } from '@virtlab/virtio/conformance';
import { describeBlkDriver } from './conformance.ts';
import { createBlkDevice } from './device.ts';
import { createMemoryBackend } from './memory-backend.ts';

const CAPACITY = 512;

for (const queueCount of [1, 3]) {
  describeBlkDriver({
    name: `our own device in memory, ${queueCount} queues`,
    capacitySectors: CAPACITY,
    serial: 'virtlab-suite',
    queueCount,
    create: async () => {
      const contents = new Uint8Array(CAPACITY * 512);
      const backend = createMemoryBackend({ contents });
      const device = createBlkDevice({ backend, queueCount, queueSize: 64, serial: 'virtlab-suite' });
      const driverAio = createAioContext();
      const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
      const bench = createMemoryBench({ device, loops: { driverAio, deviceAio: driverAio, settle } });
      return {
        link: bench.link,
        driverAio,
        contents: () => contents,
        close: async () => {
          const held = await bench.close();
          driverAio[Symbol.dispose]();
          return held;
        },
      };
    },
  });
}
