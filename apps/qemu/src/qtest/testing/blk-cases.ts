/** Cases of QEMU's tests/qtest/virtio-blk-test.c and vhost-user-blk-test.c that no suite of ours has in another form. */
import { expect, it } from 'vitest';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MASTER } from '@virtlab/abi/pci';
import {
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_PCI_QUEUE_NUM, VIRTIO_PCI_QUEUE_PFN, VIRTIO_PCI_QUEUE_SEL } from '@virtlab/abi/virtio-pci';
import { RING_FEATURES, type DriverSession, initializeDevice } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/vring';
import { slotBdf } from '../qemu-machine.ts';
import { type SharedMachine, settle } from './shared-machine.ts';

const SECTOR = VIRTIO_BLK_SECTOR_SIZE;
const HEADER = VIRTIO_BLK_OUTHDR.size;

export interface BlkCases {
  readonly shared: SharedMachine;
  /** Of a transitional disk of at least two sectors with one queue. */
  readonly slot: number;
  /** What is in its image now. */
  readonly contents: () => Uint8Array;
}

/** One request whose memory is in one piece, cut into a readable and a writable buffer of these sizes. */
async function request(
  session: DriverSession,
  type: number,
  sizes: readonly [readable: number, writable: number],
  data?: Uint8Array,
): Promise<Uint8Array> {
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
}

/** To be called in a suite. */
export function describeBlkCases({ shared, slot, contents }: BlkCases): void {
  const withSession = async (
    wanted: bigint,
    body: (session: DriverSession) => Promise<void>,
  ): Promise<void> => {
    const { link, close } = await shared.foreign(slot);
    const session = await initializeDevice(link, { aio: shared.aio, wanted, queueCount: 1, polling: false });
    await body(session);
    await session.stop();
    expect(await close()).toEqual([]);
  };

  it.each([
    ['basic: any layout', 0n],
    ['indirect', RING_FEATURES],
  ])('virtio-blk %s: header with data, and data with status, in one buffer each', async (_, wanted) => {
    await withSession(wanted, async (session) => {
      const data = Uint8Array.from({ length: SECTOR }, (_unused, at) => (at * 3) & 0xff);
      await request(session, VIRTIO_BLK_T_OUT, [HEADER + SECTOR, 1], data);
      expect(await request(session, VIRTIO_BLK_T_IN, [HEADER, SECTOR + 1])).toEqual(data);
      expect(contents().subarray(SECTOR, 2 * SECTOR)).toEqual(data);
    });
  });

  it('virtio-blk nxvirtq: an address for a queue that does not exist does no harm', async () => {
    const { access } = shared.machine;
    const assigned = shared.machine.assignBars().find(({ bdf, bar }) => bdf === slotBdf(slot) && bar === 0);
    const ports = assigned!.address!;
    access.configWrite(slotBdf(slot), PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    access.portWrite(ports + VIRTIO_PCI_QUEUE_SEL, 2, 2);
    expect(access.portRead(ports + VIRTIO_PCI_QUEUE_NUM, 2)).toBe(0);
    access.portWrite(ports + VIRTIO_PCI_QUEUE_PFN, 4, 1);
    shared.machine.qtest.settle();
    await withSession(0n, async (session) => {
      await request(session, VIRTIO_BLK_T_IN, [HEADER, SECTOR + 1]);
    });
  });
}
