import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { RING_FEATURES } from '@virtlab/virtio';
import { StorageDaemon, describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { expect, it } from 'vitest';
import { NOTHING_LOST, killUnderLoad } from './testing/killed-under-load.ts';
import { SharedFile } from './testing/shared-daemon.ts';
import { BLOCK_SIZE, VersionedBlocks } from './testing/versioned-blocks.ts';
import { connectForTest, settle } from './testing/vhost-user-link.ts';

const DEPTH = 64;
const BLOCKS_EACH = 4;
const ROUNDS = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1) * 5;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

const VARIANTS: readonly (readonly [string, number, bigint])[] = [
  ['one queue', 1, RING_FEATURES],
  ['one queue, plain ring', 1, 0n],
  ['four queues', 4, RING_FEATURES],
];

describeWithStorageDaemon('a storage daemon that is killed under our driver', () => {
  it.each(VARIANTS)(
    `reconnects, and no request is lost or answered for another, %s, seed ${SEED}`,
    async (_, queueCount, ringFeatures) => {
      const outcome = await killUnderLoad({
        start: ({ file, path }) => StorageDaemon.startOnFile(file, { path, queueCount }),
        queueCount,
        ringFeatures,
        depth: DEPTH,
        rounds: ROUNDS,
        completionCount: 500,
        seed: SEED,
      });
      expect(outcome).toEqual(NOTHING_LOST);
    },
  );

  it('is left in good order for the next one by `reconnect()`', async () => {
    using image = new SharedFile(new Uint8Array(DEPTH * BLOCKS_EACH * BLOCK_SIZE));
    const daemon = await StorageDaemon.startOnFile(image.file, { path: image.path });
    const under = await connectForTest({ path: image.path, deviceType: VIRTIO_ID_BLOCK });
    const { transport } = under.link;
    const driver = await createBlkDriver(under.link, { aio: under.driverAio });
    const blocks = new VersionedBlocks(driver, DEPTH, BLOCKS_EACH, SEED);
    blocks.start();
    for (let round = 1; round <= 5; round += 1) {
      const target = blocks.completedCount + 200;
      while (blocks.completedCount < target && blocks.faults.length === 0) await settle();
      await transport.reconnect();
      expect(transport.reconnectCount).toBe(round);
    }
    blocks.stop();
    while (blocks.inFlightCount > 0 && blocks.faults.length === 0) await settle();
    expect(blocks.faults).toEqual([]);
    expect(Buffer.compare(image.contents(), blocks.expected())).toBe(0);
    await driver.close();
    expect(await under.close()).toEqual([]);
    await daemon.kill();
  });

  it('without reconnecting, its death fails what is in flight and says why', async () => {
    using image = new SharedFile(new Uint8Array(DEPTH * BLOCKS_EACH * BLOCK_SIZE));
    const daemon = await StorageDaemon.startOnFile(image.file, { path: image.path });
    const under = await connectForTest({ path: image.path, deviceType: VIRTIO_ID_BLOCK });
    const driver = await createBlkDriver(under.link, { aio: under.driverAio });
    await daemon.kill();
    const read = driver.read(0, new Uint8Array(BLOCK_SIZE));
    await expect(read).rejects.toMatchObject({ code: 'ENODEV' });
    expect(driver.failure).toMatch(/device gone/);
    await driver.close();
    expect(await under.close()).toEqual([]);
  });
});
