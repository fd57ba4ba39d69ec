import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_SECTOR_SIZE,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_ID_BLOCK, featureBit, hasFeature } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { closeFd, memfdCreate, openFdCount } from '@virtlab/linux';
import { RING_FEATURES, initializeDevice } from '@virtlab/virtio';
import { expect, it } from 'vitest';
import { type VhostUserLink, connectVhostUser } from './frontend-connect.ts';
import {
  type StorageDaemonOptions,
  StorageDaemon,
  describeWithStorageDaemon,
} from './testing/storage-daemon.ts';

const SECTOR_COUNT = 2048;
const DISK_SIZE = SECTOR_COUNT * VIRTIO_BLK_SECTOR_SIZE;
const NULL_DISK: StorageDaemonOptions = { blockdev: `driver=null-co,size=${DISK_SIZE},read-zeroes=on` };

async function withLink(
  daemon: StorageDaemon,
  body: (link: VhostUserLink, aio: ReturnType<typeof createNodeAioContext>) => Promise<void>,
): Promise<void> {
  const fdCount = openFdCount();
  const aio = createNodeAioContext();
  const link = await connectVhostUser({
    path: daemon.path,
    aio,
    deviceType: VIRTIO_ID_BLOCK,
    memorySize: 1 << 20,
  });
  try {
    await body(link, aio);
  } finally {
    await link[Symbol.asyncDispose]();
  }
  expect(aio.leaks()).toEqual([]);
  expect([link.dma.usedPages, link.dma.lentCount, openFdCount() - fdCount]).toEqual([0, 0, 0]);
  aio[Symbol.dispose]();
}

async function readDisk(link: VhostUserLink, aio: ReturnType<typeof createNodeAioContext>) {
  const wanted = RING_FEATURES | featureBit(VIRTIO_BLK_F_RO) | featureBit(VIRTIO_BLK_F_BLK_SIZE);
  const session = await initializeDevice(link, { aio, wanted, queueSizeMax: 16 });
  const bytes = await session.readConfig(0, VIRTIO_BLK_CONFIG.offset.num_queues + 2);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const disk = {
    capacity: Number(view.getBigUint64(VIRTIO_BLK_CONFIG.offset.capacity, true)),
    configQueueCount: view.getUint16(VIRTIO_BLK_CONFIG.offset.num_queues, true),
    queueCount: session.queues.length,
    isReadOnly: hasFeature(session.features, VIRTIO_BLK_F_RO),
  };
  await session.stop();
  return disk;
}

describeWithStorageDaemon('driver role on qemu-storage-daemon: bring-up', () => {
  it.each([1, 2, 8])(
    'a null-co node with %i queues, again and again over one connection',
    async (queueCount) => {
      const daemon = await StorageDaemon.start({ ...NULL_DISK, queueCount });
      for (let connection = 0; connection < 2; connection += 1) {
        await withLink(daemon, async (link, aio) => {
          expect(link.transport.queueCount).toBe(queueCount);
          expect([...link.transport.protocolFeatures].toSorted()).toEqual([
            'BACKEND_REQ',
            'CONFIG',
            'CONFIGURE_MEM_SLOTS',
            'MQ',
            'REPLY_ACK',
          ]);
          for (let round = 0; round < 3; round += 1) {
            expect(await readDisk(link, aio)).toEqual({
              capacity: SECTOR_COUNT,
              configQueueCount: queueCount,
              queueCount,
              isReadOnly: false,
            });
          }
        });
      }
      await daemon.kill();
    },
  );

  it('a raw file, read-only, found by a descriptor of ours', async () => {
    const fd = memfdCreate('disk', DISK_SIZE, { seal: false });
    const file = `/proc/${process.pid}/fd/${fd}`;
    const daemon = await StorageDaemon.startOnFile(file, { writable: false });
    await withLink(daemon, async (link, aio) => {
      expect(await readDisk(link, aio)).toMatchObject({ capacity: SECTOR_COUNT, isReadOnly: true });
    });
    await daemon.kill();
    closeFd(fd);
  });

  it('§2.5 more configuration than there is, is refused, and the device lives on', async () => {
    const daemon = await StorageDaemon.start(NULL_DISK);
    await withLink(daemon, async (link, aio) => {
      await expect(link.transport.readConfigBytes(0, new Uint8Array(256))).rejects.toMatchObject({
        code: 'EPROTO',
      });
      expect((await readDisk(link, aio)).capacity).toBe(SECTOR_COUNT);
    });
    await daemon.kill();
  });

  it('its death makes the device gone, and what is asked of it ENODEV', async () => {
    const daemon = await StorageDaemon.start(NULL_DISK);
    await withLink(daemon, async ({ transport }) => {
      const { promise, resolve } = Promise.withResolvers<string>();
      transport.onGone(resolve);
      await daemon.kill();
      expect(await promise).toMatch(/closed the connection/);
      await expect(transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
      transport.kick(0);
    });
  });

  it('nobody at the path is ENODEV', async () => {
    const aio = createNodeAioContext();
    const options = { path: '/nonexistent/blk.sock', aio, deviceType: VIRTIO_ID_BLOCK };
    await expect(connectVhostUser(options)).rejects.toMatchObject({ code: 'ENODEV' });
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
  });
});
