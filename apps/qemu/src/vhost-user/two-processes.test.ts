import {
  VIRTIO_F_RING_PACKED,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_NET,
  VIRTIO_ID_RNG,
  featureBit,
} from '@virtlab/abi/virtio';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { describeWithFfi } from '@virtlab/linux/testing';
import { RING_FEATURES } from '@virtlab/virtio';
import { describeBlkDriver } from '@virtlab/virtio-blk/conformance';
import { createNetDriver } from '@virtlab/virtio-net';
import { createRngDriver } from '@virtlab/virtio-rng';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DeviceProcess } from './testing/device-process.ts';
import { NOTHING_LOST, killUnderLoad } from './testing/killed-under-load.ts';
import { SharedFile } from './testing/shared-daemon.ts';
import { connectForTest, settle } from './testing/vhost-user-link.ts';

const CAPACITY = 2048;
const QUEUE_COUNT = 4;
const DEPTH = 32;
const ROUNDS = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1) * 3;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const PACKED = featureBit(VIRTIO_F_RING_PACKED);

describeWithFfi('both roles, in two processes', () => {
  describe('virtio-blk', () => {
    const image = new SharedFile(new Uint8Array(CAPACITY * VIRTIO_BLK_SECTOR_SIZE));
    let device: DeviceProcess | undefined;
    beforeAll(async () => {
      device = await DeviceProcess.start('blk', image.file, image.path);
    });
    afterAll(async () => {
      await device?.kill();
      image[Symbol.dispose]();
    });
    describeBlkDriver({
      name: 'our device role, raw file, four queues',
      queueCount: QUEUE_COUNT,
      capacitySectors: CAPACITY,
      serial: 'two-processes',
      create: async () => {
        const under = await connectForTest({ path: image.path, deviceType: VIRTIO_ID_BLOCK });
        return { ...under, contents: () => image.contents() };
      },
    });
  });

  it.each([
    ['split', RING_FEATURES],
    ['packed', RING_FEATURES | PACKED],
  ])(
    `a device that is killed and started again loses no request (INFLIGHT_SHMFD), %s, seed ${SEED}`,
    async (_, ringFeatures) => {
      const outcome = await killUnderLoad({
        start: ({ file, path }) => DeviceProcess.start('blk', file, path),
        queueCount: QUEUE_COUNT,
        ringFeatures,
        depth: DEPTH,
        rounds: ROUNDS,
        completionCount: 300,
        seed: SEED,
        protocolFeature: 'INFLIGHT_SHMFD',
      });
      expect(outcome).toEqual(NOTHING_LOST);
    },
    60_000,
  );

  it('virtio-rng fills buffers, and is gone when its process is', async () => {
    using place = new SharedFile(new Uint8Array(1));
    const device = await DeviceProcess.start('rng', '', place.path);
    const under = await connectForTest({ path: place.path, deviceType: VIRTIO_ID_RNG, queueSizeMax: 8 });
    const driver = await createRngDriver(under.link, { aio: under.driverAio });
    const bytes = new Uint8Array(64);
    expect(await driver.read(bytes)).toBe(64);
    expect(bytes.some((byte) => byte !== 0)).toBe(true);
    await device.kill();
    await expect(driver.read(bytes)).rejects.toThrow();
    await driver.stop();
    expect(await under.close()).toEqual([]);
  });

  it('two virtio-net drivers talk through the switch of a third process', async () => {
    using place = new SharedFile(new Uint8Array(1));
    const paths = [`${place.path}-a`, `${place.path}-b`];
    const device = await DeviceProcess.start('net', '', ...paths);
    const unders = [];
    for (const path of paths) {
      unders.push(
        await connectForTest({
          path,
          deviceType: VIRTIO_ID_NET,
          queueCount: 3,
          queueSizeMax: [256, 256, 64],
        }),
      );
    }
    const cards = [];
    for (const { link, driverAio } of unders) cards.push(await createNetDriver(link, { aio: driverAio }));
    const [a, b] = cards as [(typeof cards)[0], (typeof cards)[0]];
    expect([...a.mac, ...b.mac]).toEqual([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    const header = (to: Uint8Array, from: Uint8Array) => [...to, ...from, 0x88, 0xb5];
    const seen: number[] = [];
    b.onFrame((frame) => {
      b.send(Uint8Array.of(...header(frame.subarray(6, 12), b.mac), ...frame.subarray(14)));
      b.kick();
    });
    a.onFrame((frame) => void seen.push(frame[14]!));
    for (let count = 0; count < 100; count += 1) {
      while (!a.send(Uint8Array.of(...header(b.mac, a.mac), count, ...new Uint8Array(500)))) await settle();
      a.kick();
      while (seen.at(-1) !== count) await settle();
    }
    expect(seen).toHaveLength(100);
    for (const card of cards) await card.close();
    for (const { link, driverAio } of unders) {
      await link[Symbol.asyncDispose]();
      expect(driverAio.leaks()).toEqual([]);
      driverAio[Symbol.dispose]();
    }
    await device.kill();
  });
});
