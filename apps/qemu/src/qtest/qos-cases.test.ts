/** Cases of QEMU's tests/qtest/virtio-*-test.c that no suite of ours has in another form. */
import { afterAll, expect, it } from 'vitest';
import {
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '@virtlab/abi/virtio-blk';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MASTER } from '@virtlab/abi/pci';
import { VIRTIO_PCI_QUEUE_NUM, VIRTIO_PCI_QUEUE_PFN, VIRTIO_PCI_QUEUE_SEL } from '@virtlab/abi/virtio-pci';
import { RING_FEATURES, type DriverSession, initializeDevice } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/vring';
import { slotBdf } from './qemu-machine.ts';
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
const HEADER = VIRTIO_BLK_OUTHDR.size;

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
    const queueCount = slot === NET ? TRANSMIT + 1 : 1;
    const session = await initializeDevice(link, { aio: shared.aio, wanted, queueCount, polling: false });
    await body(session);
    await session.stop();
    expect(await close()).toEqual([]);
  };

  /** One request whose memory is in one piece, cut into a readable and a writable buffer of these sizes. */
  const request = async (
    session: DriverSession,
    type: number,
    sizes: readonly [readable: number, writable: number],
    data?: Uint8Array,
  ): Promise<Uint8Array> => {
    const { dma } = session.link;
    const ring = session.queues[0]!;
    const size = HEADER + SECTOR + 1;
    const base = dma.allocate(size);
    const bytes = dma.memory.u8.subarray(base, base + size).fill(0xff);
    const header = new DataView(bytes.buffer, bytes.byteOffset, HEADER);
    VIRTIO_BLK_OUTHDR.write(header, 0, { type, reserved: 0, sector: 1n });
    if (data !== undefined) bytes.set(data, HEADER);
    const buffers = createBufferList();
    buffers.addReadable(base, sizes[0]);
    buffers.addWritable(base + sizes[0], sizes[1]);
    expect(ring.add(buffers, 0)).toBe(0);
    session.kick(0);
    while (!ring.hasUsed()) await settle();
    expect([ring.popUsed(), ring.usedSize]).toEqual([0, sizes[1]]);
    expect(bytes[size - 1]).toBe(VIRTIO_BLK_S_OK);
    const answer = bytes.slice(HEADER, HEADER + SECTOR);
    dma.free(base, size);
    return answer;
  };

  it.each([
    ['basic: any layout', 0n],
    ['indirect', RING_FEATURES],
  ])('virtio-blk %s: header with data, and data with status, in one buffer each', async (_, wanted) => {
    await withSession(BLK, wanted, async (session) => {
      const data = Uint8Array.from({ length: SECTOR }, (_unused, at) => (at * 3) & 0xff);
      await request(session, VIRTIO_BLK_T_OUT, [HEADER + SECTOR, 1], data);
      expect(await request(session, VIRTIO_BLK_T_IN, [HEADER, SECTOR + 1])).toEqual(data);
      expect(disk.contents().subarray(SECTOR, 2 * SECTOR)).toEqual(data);
    });
  });

  it('virtio-blk nxvirtq: an address for a queue that does not exist does no harm', async () => {
    const { access } = shared.machine;
    const assigned = shared.machine.assignBars().find(({ bdf, bar }) => bdf === slotBdf(BLK) && bar === 0);
    const ports = assigned!.address!;
    access.configWrite(slotBdf(BLK), PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    access.portWrite(ports + VIRTIO_PCI_QUEUE_SEL, 2, 2);
    expect(access.portRead(ports + VIRTIO_PCI_QUEUE_NUM, 2)).toBe(0);
    access.portWrite(ports + VIRTIO_PCI_QUEUE_PFN, 4, 1);
    shared.machine.qtest.settle();
    await withSession(BLK, 0n, async (session) => {
      await request(session, VIRTIO_BLK_T_IN, [HEADER, SECTOR + 1]);
    });
  });

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
