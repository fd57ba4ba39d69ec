import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_IN,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_ID_BLOCK, featureBit, hasFeature } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { closeFd, memfdCreate, openFdCount } from '@virtlab/linux';
import { type DriverSession, RING_FEATURES, initializeDevice } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/virtio/testing';
import { expect, it } from 'vitest';
import { type VhostUserLink, connectVhostUser } from './frontend-connect.ts';
import { type ConnectVhostUserOptions, VHOST_USER_FRONTEND_FEATURES } from './frontend-options.ts';
import {
  type StorageDaemonOptions,
  StorageDaemon,
  describeWithStorageDaemon,
} from './testing/storage-daemon.ts';
import { until } from './testing/frontend-bench.ts';

const SECTOR_COUNT = 2048;
const DISK_SIZE = SECTOR_COUNT * VIRTIO_BLK_SECTOR_SIZE;
const NULL_DISK: StorageDaemonOptions = { blockdev: `driver=null-co,size=${DISK_SIZE},read-zeroes=on` };

async function withLink(
  daemon: StorageDaemon,
  body: (link: VhostUserLink, aio: ReturnType<typeof createNodeAioContext>) => Promise<void>,
  options: Partial<ConnectVhostUserOptions> = {},
): Promise<void> {
  const fdCount = openFdCount();
  const aio = createNodeAioContext();
  const link = await connectVhostUser({
    path: daemon.path,
    aio,
    deviceType: VIRTIO_ID_BLOCK,
    memorySize: 1 << 20,
    ...options,
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

const SLOW_DISK: StorageDaemonOptions = { blockdev: `${NULL_DISK.blockdev},latency-ns=100000000` };
const REQUEST_COUNT = 3;
const REQUEST_SIZE = 1024;

/** Reads of one sector each, and what has come of them: tokens with their status, as they are done. */
function read(link: VhostUserLink, session: DriverSession, place: number): number[][] {
  const { memory } = link.dma;
  const answered: number[][] = [];
  const statuses: number[] = [];
  for (let token = 0; token < REQUEST_COUNT; token += 1) {
    const header = place + token * REQUEST_SIZE;
    const data = header + 16;
    const status = data + VIRTIO_BLK_SECTOR_SIZE;
    memory.u32[header / 4] = VIRTIO_BLK_T_IN;
    memory.u8[status] = 0xff;
    statuses.push(status);
    const list = createBufferList();
    list.addReadable(header, 16);
    list.addWritable(data, VIRTIO_BLK_SECTOR_SIZE);
    list.addWritable(status, 1);
    session.queues[0]!.add(list, token);
  }
  session.onCall(0, () => {
    const queue = session.queues[0]!;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      answered.push([token, memory.u8[statuses[token]!]!]);
    }
  });
  session.kick(0);
  return answered;
}

const ALL_READ = Array.from({ length: REQUEST_COUNT }, (_, token) => [token, 0]);

describeWithStorageDaemon('driver role on qemu-storage-daemon: rings stopped with requests in flight', () => {
  it('it answers before they are finished, goes on with them, and finishes each once', async () => {
    const daemon = await StorageDaemon.start(SLOW_DISK);
    const protocolFeatures = VHOST_USER_FRONTEND_FEATURES.filter((name) => name !== 'CONFIGURE_MEM_SLOTS');
    await withLink(
      daemon,
      async (link, aio) => {
        const session = await initializeDevice(link, { aio, wanted: RING_FEATURES });
        const place = link.dma.allocate(REQUEST_COUNT * REQUEST_SIZE);
        const answered = read(link, session, place);
        // By the time that it has answered this, it has seen the kick too.
        await session.readConfig(0, 8);
        const fd = memfdCreate('caller', 4096);
        const lent = await link.mapMemory(fd, 0, 4096);
        closeFd(fd);
        await until(() => answered.length === REQUEST_COUNT || session.broken !== undefined);
        expect([answered, session.broken]).toEqual([ALL_READ, undefined]);
        lent[Symbol.dispose]();
        await session.stop();
        link.dma.free(place, REQUEST_COUNT * REQUEST_SIZE);
      },
      { protocolFeatures },
    );
    await daemon.kill();
  });
});
