import { domId } from '@virtlab/abi/brands';
import { featureBit, VIRTIO_F_RING_PACKED } from '@virtlab/abi/virtio';
import { DMA_FAULT_ADDRESS, DMA_OK, SegmentList, memoryRegion } from '@virtlab/guest-memory';
import { closeFd, memfdCreate, openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { describe, expect, it } from 'vitest';
import { MessageFds } from './connection.ts';
import { MEM_SLOTS_MAX, MemoryTable } from './memory-table.ts';
import type { RegionDescription } from './payload-memory.ts';
import { TableMemory } from './table-memory.ts';
import {
  BASE_FEATURES,
  MEMORY_SIZE,
  RawMachine,
  RawPeer,
  RawRing,
  USER_BASE,
  until,
} from './testing/raw-peer.ts';

const SIZE = 0x4000;
const AT: RegionDescription = {
  guestAddress: 0n,
  size: BigInt(SIZE),
  userAddress: USER_BASE,
  mmapOffset: 0n,
};

/** A region apart from `AT` in both address spaces. */
function elsewhere(index: number, fields: Partial<RegionDescription> = {}): RegionDescription {
  const at = BigInt(index) * 0x10_0000n;
  return { ...AT, guestAddress: at, userAddress: USER_BASE + at, ...fields };
}

function fdOf(size = SIZE, seal = true): MessageFds {
  return new MessageFds([memfdCreate('region', size, { seal })]);
}

describeWithFfi('"Memory access": regions that are refused', () => {
  const hostile: readonly (readonly [string, RegionDescription, () => MessageFds, RegExp])[] = [
    ['memory that can shrink', elsewhere(1), () => fdOf(SIZE, false), /F_SEAL_SHRINK/],
    ['a file that is shorter', elsewhere(1, { size: BigInt(SIZE) * 2n }), () => fdOf(), /beyond the end/],
    ['an offset beyond the file', elsewhere(1, { mmapOffset: 0x4000n }), () => fdOf(), /beyond the end/],
    ['an offset beyond any file', elsewhere(1, { mmapOffset: 1n << 60n }), () => fdOf(), /any file/],
    ['a size of half words', elsewhere(1, { size: 0x3ffcn }), () => fdOf(), /whole words/],
    ['an overlap of guest addresses', elsewhere(1, { guestAddress: 0x3fffn }), () => fdOf(), /overlaps/],
    ['an overlap of user addresses', elsewhere(1, { userAddress: USER_BASE + 8n }), () => fdOf(), /overlaps/],
    ['no descriptor', elsewhere(1), () => new MessageFds([]), /without a descriptor/],
    [
      'memory of a domain',
      elsewhere(1, { xen: { kind: 'grant', isOnDemand: false, domid: domId(7) } }),
      () => fdOf(),
      /domain 7, .* out of reach/,
    ],
  ];

  it.each(hostile)('%s', (_, region, fds, message) => {
    const before = openFdCount();
    {
      using table = new MemoryTable();
      expect(table.add(AT, fdOf())).toBeUndefined();
      using one = fds();
      expect(table.add(region, one)?.message).toMatch(message);
      expect(table.regionCount).toBe(1);
      using both = fds();
      const fd = memfdCreate('first', SIZE);
      const list = [fd, ...drained(both)];
      using all = new MessageFds(list);
      const fault = table.set([AT, region], all);
      expect(fault?.message).toMatch(message);
      expect(table.guestAddressOf(USER_BASE, BigInt(SIZE))).toBe(0n);
    }
    expect(openFdCount()).toBe(before);
  });

  it('who serves is told what is wrong with memory that can shrink, and what is not', async () => {
    const reasons: string[] = [];
    await using peer = new RawPeer({ onRefusal: (reason) => reasons.push(reason) });
    await peer.negotiate();
    using fds = fdOf(SIZE, false);
    const fd = fds.take()!;
    expect((await peer.try('SET_MEM_TABLE', [AT], fd)).ok).toBe(false);
    expect((await peer.try('ADD_MEM_REG', AT, fd)).ok).toBe(false);
    closeFd(fd);
    const why =
      /region of 0x4000 bytes at guest 0x0: .*F_SEAL_SHRINK.*memory-backend-memfd without hugetlb is taken$/;
    expect(reasons).toEqual(['SET_MEM_TABLE', 'ADD_MEM_REG'].map(() => expect.stringMatching(why)));
    expect(reasons.map((reason) => reason.split(':')[0])).toEqual(['SET_MEM_TABLE', 'ADD_MEM_REG']);
  });

  it('memory that can shrink is taken by who says so', () => {
    using table = new MemoryTable({ allowShrink: true });
    using one = fdOf(SIZE, false);
    expect(table.add(AT, one)).toBeUndefined();
    expect(table.guestAddressOf(USER_BASE, BigInt(SIZE))).toBe(0n);
  });

  it('a descriptor that is no memory', () => {
    using table = new MemoryTable();
    // An eventfd, a socket, anything: none has seals.
    expect(table.add(AT, new MessageFds([memfdCreate('x', 8, { seal: false })]))).toMatchObject({
      code: 'REFUSED',
    });
  });

  it('more than the slots that were announced', () => {
    using table = new MemoryTable();
    const small = { size: 8n };
    for (let index = 0; index < MEM_SLOTS_MAX; index += 1) {
      expect(table.add(elsewhere(index, small), fdOf(8))).toBeUndefined();
    }
    using fds = fdOf(8);
    expect(table.add(elsewhere(MEM_SLOTS_MAX, small), fds)?.message).toMatch(/slots/);
  });
});

function drained(fds: MessageFds): number[] {
  const taken: number[] = [];
  for (let fd = fds.take(); fd !== undefined; fd = fds.take()) taken.push(fd);
  return taken;
}

describeWithFfi('"Memory access": addresses', () => {
  it('user addresses are those of one region, whole', () => {
    using table = new MemoryTable();
    table.add(AT, fdOf());
    table.add(elsewhere(1), fdOf());
    expect(table.guestAddressOf(USER_BASE + 0x10_0010n, 16n)).toBe(0x10_0010n);
    expect(table.guestAddressOf(USER_BASE + 0x3ff8n, 16n)).toBeUndefined();
    expect(table.guestAddressOf(0n, 1n)).toBeUndefined();
    expect(table.guestAddressOf(USER_BASE - 1n, 1n)).toBeUndefined();
  });

  it('a region inside a file, at an offset that is no page', () => {
    using table = new MemoryTable();
    const fd = memfdCreate('file', 0x3000);
    table.add({ ...AT, size: 0x1008n, mmapOffset: 0x1ff0n }, new MessageFds([fd]));
    expect(table.memory.regions[0]?.size).toBe(0x1008);
  });

  it('removing goes by addresses and size, and leaves the others', () => {
    using table = new MemoryTable();
    table.add(AT, fdOf());
    table.add(elsewhere(1), fdOf());
    const gone = table.memory.regions[0]!;
    gone.u8[0] = 1;
    expect(table.remove({ ...AT, size: 8n })).toMatchObject({ code: 'BAD_VALUE' });
    expect(table.remove({ ...AT, mmapOffset: 4096n })).toBeUndefined();
    expect(table.regionCount).toBe(1);
    // Whoever kept a view reads nothing of it any more, and does no harm.
    expect(gone.u8[0]).toBe(0);
    expect(table.guestAddressOf(USER_BASE, 1n)).toBeUndefined();
    expect(table.guestAddressOf(USER_BASE + 0x10_0000n, 1n)).toBe(0x10_0000n);
  });
});

describe('memory of a table', () => {
  const piece = (guestAddress: bigint, size: number) => ({
    guestAddress,
    region: memoryRegion(new ArrayBuffer(size)),
  });

  it('segments straddle regions that are adjacent, and keep their index when one is added', () => {
    const memory = new TableMemory();
    memory.add([piece(0x2000n, 0x1000)]);
    memory.add([piece(0x1000n, 0x1000), piece(1n << 40n, 0x1000)]);
    const list = new SegmentList();
    expect(memory.map(0x1ff0, 0, 0x20, true, list)).toBe(DMA_OK);
    expect([...list.region.subarray(0, 2), ...list.offset.subarray(0, 2)]).toEqual([1, 0, 0xff0, 0]);
    expect(memory.map(0, 1 << 8, 8, false, list)).toBe(DMA_OK);
    expect(list.region[2]).toBe(2);
    memory.add([piece(0n, 0x1000)]);
    expect(memory.regions).toHaveLength(4);
    expect(() => memory.replace([])).toThrow(TypeError);
    memory.unmap(list, 0, 3);
    memory.replace([piece(0n, 8)]);
    expect(memory.map(8, 0, 1, false, list)).toBe(DMA_FAULT_ADDRESS);
  });

  it.each([
    ['before the first', 0xfff, 0, 1],
    ['beyond the last', 0x3000, 0, 1],
    ['over the end', 0x2ff8, 0, 16],
    ['in a hole', 0x10_0000, 0, 1],
    ['over 2^64', 0xffff_fff8, 0xffff_ffff, 16],
  ])('%s nothing is mapped', (_, low, high, size) => {
    const memory = new TableMemory();
    memory.add([piece(0x1000n, 0x2000)]);
    const list = new SegmentList();
    expect(memory.map(low, high, size, true, list)).toBe(DMA_FAULT_ADDRESS);
    expect([list.count, memory.mappedCount]).toEqual([0, 0]);
  });
});

describeWithFfi('CONFIGURE_MEM_SLOTS: memory that comes and goes under a live device', () => {
  it.each([BASE_FEATURES, BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)])(
    'features %s',
    async (features) => {
      using machine = new RawMachine();
      await using peer = new RawPeer();
      peer.device.isPrompt = true;
      using ring = new RawRing(machine, 0, features);
      await peer.bringUp(machine, ring, features);
      const more = elsewhere(16);
      const fd = memfdCreate('more', SIZE);
      ring.send(1);
      await peer.ask('ADD_MEM_REG', more, fd);
      expect(await peer.try('ADD_MEM_REG', more, fd)).toMatchObject({ fault: { code: 'REFUSED' } });
      ring.send(2);
      // One descriptor too many is tolerated here, and closed.
      await peer.ask('REM_MEM_REG', more, fd);
      expect(await peer.try('REM_MEM_REG', more)).toMatchObject({ fault: { code: 'REFUSED' } });
      ring.send(3);
      await until('all', () => peer.device.finished.length === 3);
      // The whole table again while the ring runs: the same memory, mapped anew.
      await peer.setMemory(machine);
      ring.send(4);
      await until('the fourth', () => peer.device.finished.length === 4);
      expect(ring.receive().map(({ tag }) => tag)).toEqual([1, 2, 3, 4]);
      expect(peer.backend.status().regionCount).toBe(1);
      closeFd(fd);
    },
  );

  it('requests that the device has are finished before their memory goes', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer({ drainTimeoutMs: 10_000 });
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    ring.send(1);
    await until('it is taken', () => peer.device.heldCount === 1);
    const set = peer.setMemory(machine);
    await new Promise((resolve) => setTimeout(resolve, 0));
    peer.device.finish(1);
    await set;
    expect(ring.receive()).toHaveLength(1);
  });

  it('a ring whose memory goes does not start again, and its start is refused', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    expect(await peer.try('REM_MEM_REG', machine.description)).toMatchObject({ fault: { code: 'REFUSED' } });
    ring.send(1);
    await peer.ask('GET_STATUS', undefined);
    expect(peer.device.taken).toEqual([]);
    expect(peer.backend.status()).toMatchObject({ regionCount: 0, vrings: [{ isRunning: false }, {}] });
    await peer.ask('ADD_MEM_REG', machine.description, machine.fd);
    await peer.startRing(ring);
    await until('it is done', () => peer.device.finished.length === 1);
    expect(machine.region.size).toBe(MEMORY_SIZE);
  });
});
