import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type BlkDriverSetup, describeBlkDriver } from '@virtlab/virtio-blk/conformance';
import { type Divergences, type ForeignSetup, describeForeignDevice } from '@virtlab/virtio/conformance';
import { describe, expect, it } from 'vitest';
import { RequestClient, patternDisk, readRequest } from '../qtest/testing/request-client.ts';
import { SharedDaemon } from './testing/shared-daemon.ts';
import { connectForTest } from './testing/vhost-user-link.ts';

const CAPACITY = 2048;
const SECTOR = VIRTIO_BLK_SECTOR_SIZE;
const QUEUE_COUNT = 4;
const PATTERN_COUNT = 256;

const HANGS_UP = 'hangs up, and takes the next driver';
/** Where qemu-storage-daemon 7.2 does something else than VIRTIO 1.4 asks of a device. */
const DIVERGENCES: Divergences = {
  '§2.2.2 FEATURES_OK stays clear for bits': 'offers bit 24, which the test takes for one that nobody does',
  '§2.1.2 an indirect table that was not negotiated': 'follows indirect tables, negotiated or not',
  '§2.1.2 an available index more': HANGS_UP,
  '§2.1.2 a head beyond': HANGS_UP,
  '§2.1.2 a next beyond': HANGS_UP,
  '§2.1.2 a descriptor that follows itself': HANGS_UP,
  '§2.1.2 memory that was not lent': HANGS_UP,
  '§2.1.2 a buffer that wraps': HANGS_UP,
  '§2.1.2 a readable buffer after': HANGS_UP,
};

async function withDriver(shared: SharedDaemon, body: (driver: BlkDriver) => Promise<void>): Promise<void> {
  const under = await connectForTest({ path: shared.daemon.path, deviceType: VIRTIO_ID_BLOCK });
  const driver = await createBlkDriver(under.link, { aio: under.driverAio });
  try {
    await body(driver);
    await driver.close();
  } catch (error) {
    await under.close();
    throw error;
  }
  expect(await under.close()).toEqual([]);
}

describeWithStorageDaemon("our blk driver on qemu-storage-daemon's export, over vhost-user", () => {
  for (const queueCount of [1, QUEUE_COUNT]) {
    const shared = new SharedDaemon(new Uint8Array(CAPACITY * SECTOR), { queueCount });
    const setup: BlkDriverSetup = {
      name: `a raw file, ${queueCount} queues`,
      queueCount,
      capacitySectors: CAPACITY,
      create: async () => {
        const under = await connectForTest({ path: shared.daemon.path, deviceType: VIRTIO_ID_BLOCK });
        return { ...under, contents: () => shared.image.contents() };
      },
    };
    describeBlkDriver(setup);
  }

  describe('what a raw file has', () => {
    const shared = new SharedDaemon(new Uint8Array(CAPACITY * SECTOR));

    it('§5.2.6 a discard gives the space of the file back', async () => {
      await withDriver(shared, async (driver) => {
        await driver.write(0, new Uint8Array(CAPACITY * SECTOR).fill(1));
        await driver.flush();
        const full = shared.image.allocatedSize;
        await driver.discard(0, CAPACITY);
        await driver.flush();
        expect(shared.image.allocatedSize).toBeLessThan(full);
        expect(shared.image.contents().every((byte) => byte === 0)).toBe(true);
      });
    });

    it('§5.2.6.2 the write cache is switched through SET_CONFIG', async () => {
      await withDriver(shared, async (driver) => {
        expect(await driver.setWriteback(false)).toBe(false);
        expect(driver.isWriteThrough).toBe(true);
        expect(await driver.setWriteback(true)).toBe(true);
      });
    });
  });

  describe('a read-only export', () => {
    const shared = new SharedDaemon(patternDisk(CAPACITY), { writable: false });

    it('§5.2.6.1 is read, and not written', async () => {
      await withDriver(shared, async (driver) => {
        expect(driver.readOnly).toBe(true);
        const target = new Uint8Array(CAPACITY * SECTOR);
        await driver.read(0, target);
        expect(target).toEqual(patternDisk(CAPACITY));
        await expect(driver.write(0, new Uint8Array(SECTOR))).rejects.toMatchObject({ code: 'EROFS' });
      });
    });
  });

  describe('as any device', () => {
    const shared = new SharedDaemon(patternDisk(PATTERN_COUNT));
    const setup: ForeignSetup = {
      name: 'blk of qemu-storage-daemon',
      deviceType: VIRTIO_ID_BLOCK,
      queue: 0,
      create: () => connectForTest({ path: shared.daemon.path, deviceType: VIRTIO_ID_BLOCK }),
      createClient: (session) => new RequestClient(session, 0, readRequest(PATTERN_COUNT)),
      enduranceCount: 70_000,
      divergences: DIVERGENCES,
    };
    describeForeignDevice(setup);
  });
});
