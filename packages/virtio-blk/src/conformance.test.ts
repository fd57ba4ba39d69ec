import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_F_ZONED } from '@virtlab/abi/virtio-blk';
import { type AioContext, createAioContext } from '@virtlab/aio';
import type { DriverLink, VirtioDevice } from '@virtlab/virtio';
import {
  type DeviceBench,
  type DeviceSetup,
  SimulatedLoops,
  createMemoryBench,
  describeDevice,
} from '@virtlab/virtio/conformance';
import type { BlockBackend } from './backend.ts';
import { createBlkDevice } from './device.ts';
import { createBlkDriver } from './driver.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { openRawFileBackend } from './node/raw-file-backend.ts';
import { createNullBackend } from './null-backend.ts';
import { createSparseBackend } from './sparse-backend.ts';
import { HeldBackend } from './testing/held-backend.ts';
import { ZONE_SECTORS, zonedDisk } from './testing/zoned.ts';

const SECTOR = 512;
const folder = mkdtempSync(join(tmpdir(), 'virtio-blk-conformance-'));
afterAll(() => rmSync(folder, { recursive: true }));

const backends = new Map<VirtioDevice, BlockBackend>();

async function drive(link: DriverLink, aio: AioContext): Promise<void> {
  await using disk = await createBlkDriver(link, { aio });
  const source = Uint8Array.from({ length: 9 * SECTOR }, (_, at) => (at * 5) & 0xff);
  const target = new Uint8Array(source.length);
  await disk.write(3, source);
  await disk.flush();
  await disk.read(3, target);
  if (!Buffer.from(target).equals(source)) throw new Error('What was written does not come back');
}

/** A setup whose devices' backends are closed with them. */
function setup(name: string, open: () => BlockBackend | Promise<BlockBackend>, queueCount = 1): DeviceSetup {
  return {
    name: `blk, ${name}`,
    createDevice: async () => {
      const backend = await open();
      const device = createBlkDevice({ backend, queueCount, queueSize: 64 });
      backends.set(device, backend);
      return device;
    },
    disposeDevice: async (device) => {
      await backends.get(device)?.close();
      backends.delete(device);
    },
    drive,
  };
}

const contents = 64 * SECTOR;
describeDevice(setup('memory', () => createMemoryBackend({ contents })));
describeDevice(setup('memory, three queues', () => createMemoryBackend({ contents }), 3));
describeDevice(setup('sparse', () => createSparseBackend({ capacitySectors: 2 ** 40 })));
describeDevice({
  ...setup('null, read-only', () => createNullBackend({ capacitySectors: 64, readOnly: true })),
  drive: async (link, aio) => {
    await using disk = await createBlkDriver(link, { aio });
    await disk.read(0, new Uint8Array(SECTOR));
  },
});

for (const model of ['host-managed', 'host-aware'] as const) {
  const zoned = setup(
    `${model} zones, two queues`,
    () => zonedDisk({ model, maxOpenZones: 2, maxActiveZones: 3 }),
    2,
  );
  describeDevice({
    ...zoned,
    // A host-managed disk does not work with a driver that knows no zones: the suite's own drivers accept them here.
    connect: async (device): Promise<DeviceBench> => {
      const bench = createMemoryBench({ device, loops: new SimulatedLoops(1) });
      const { transport } = bench.link;
      const accept = transport.writeDriverFeatures.bind(transport);
      transport.writeDriverFeatures = async (features) =>
        await accept(features | featureBit(VIRTIO_BLK_F_ZONED));
      return bench;
    },
    drive: async (link, aio) => {
      await using disk = await createBlkDriver(link, { aio, queueCount: 2 });
      const zones = disk.zones!;
      await zones.resetAll();
      const source = new Uint8Array(9 * SECTOR).fill(7);
      await disk.write(2 * ZONE_SECTORS, source);
      await disk.flush();
      const [zone] = await zones.report(2 * ZONE_SECTORS, 1);
      if (zone?.writePointer !== 2 * ZONE_SECTORS + 9)
        throw new Error('The write pointer is not where it must be');
      const target = new Uint8Array(source.length);
      await disk.read(2 * ZONE_SECTORS, target);
      if (!Buffer.from(target).equals(source)) throw new Error('What was written does not come back');
    },
  });
}

describeDevice({
  ...setup(
    'operations that end late and out of order',
    () => new HeldBackend(createMemoryBackend({ contents })),
  ),
  connect: async (device): Promise<DeviceBench> => {
    const loops = new SimulatedLoops(7);
    const held = backends.get(device) as HeldBackend;
    const settle = async (): Promise<void> => {
      await loops.settle();
      if (held.held.length > 0) held.end(loops.simulation.prng.below(held.held.length));
    };
    const { driverAio, deviceAio } = loops;
    return createMemoryBench({ device, loops: { driverAio, deviceAio, settle } });
  },
});

for (const io of ['sync', 'threads'] as const) {
  describeDevice({
    ...setup(`raw file, ${io}`, () =>
      openRawFileBackend({ path: join(folder, `${io}.img`), createSize: contents, io }),
    ),
    connect: async (device): Promise<DeviceBench> => {
      const aio = createAioContext();
      const settle = async (): Promise<void> => {
        for (let turn = 0; turn < 4; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
        // The thread pool takes real time: what is in flight there is waited for, not counted in turns.
        while ((device as ReturnType<typeof createBlkDevice>).inFlightCount > 0) {
          await new Promise((resolve) => void setImmediate(resolve));
        }
      };
      return createMemoryBench({ device, loops: { driverAio: aio, deviceAio: aio, settle } });
    },
  });
}
