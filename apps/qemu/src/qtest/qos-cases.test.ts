/** Cases of QEMU's tests/qtest/virtio-*-test.c that no suite of ours has in another form. */
import { afterAll, expect, it } from 'vitest';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { type DriverSession, initializeDevice } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/vring';
import { describeBlkCases } from './testing/blk-cases.ts';
import { words } from './testing/command-line.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { DiskFile, driveArguments } from './testing/disk-file.ts';
import { SharedMachine, settle } from './testing/shared-machine.ts';

const BLK = 3;
const NET = 4;
const TRANSMIT = 1;
const SECTOR = VIRTIO_BLK_SECTOR_SIZE;
/** One more than fill the largest frame that QEMU takes. */
const BUFFER_COUNT = 65;

describeWithQemu("cases of QEMU's own qtests", () => {
  const disk = new DiskFile(new Uint8Array(64 * SECTOR));
  const shared = new SharedMachine({
    memorySize: 96 << 20,
    devices: (pass) => [
      ...driveArguments('d0', pass(disk.fd)),
      ...words(`
        -device virtio-blk-pci,drive=d0,addr=${BLK},num-queues=1
        -netdev hubport,id=n0,hubid=0 -device virtio-net-pci,netdev=n0,addr=${NET},romfile=
      `),
    ],
  });
  afterAll(() => disk[Symbol.dispose]());

  const withSession = async (
    slot: number,
    wanted: bigint,
    body: (session: DriverSession) => Promise<void>,
  ): Promise<void> => {
    const { link, close } = await shared.foreign(slot);
    const queueCount = TRANSMIT + 1;
    const session = await initializeDevice(link, { aio: shared.aio, wanted, queueCount, polling: false });
    await body(session);
    await session.stop();
    expect(await close()).toEqual([]);
  };

  describeBlkCases({ shared, slot: BLK, contents: () => disk.contents() });

  it.each([
    ['uint_max', Math.floor(0xffff_ffff / BUFFER_COUNT)],
    ['net_bufsize', (4096 + 65536) / (BUFFER_COUNT - 1)],
  ])('virtio-net large_tx/%s: a frame of so many such buffers is dropped', async (_, size) => {
    await withSession(NET, 0n, async (session) => {
      const { dma } = session.link;
      const ring = session.queues[TRANSMIT]!;
      const base = dma.allocate(size);
      const buffers = createBufferList();
      for (let buffer = 0; buffer < BUFFER_COUNT; buffer += 1) buffers.addReadable(base, size);
      expect(ring.add(buffers, 7)).toBe(0);
      session.kick(TRANSMIT);
      while (!ring.hasUsed()) await settle();
      expect([ring.popUsed(), ring.usedSize, session.broken]).toEqual([7, 0, undefined]);
      dma.free(base, size);
    });
  });
});
