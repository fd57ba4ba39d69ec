import { closeFd, memfdCreate, openFdCount } from '@virtlab/linux';
import { HugePages, describeWithFfi } from '@virtlab/linux/testing';
import { describe, expect, it, vi } from 'vitest';
import { MessageFds } from './connection.ts';
import { MEMORY_SIZE_MAX_DEFAULT, MemoryTable } from './memory-table.ts';
import type { RegionDescription } from './payload-memory.ts';
import { disposeAll, mapPieces } from './region-mapping.ts';
import { RawMachine, RawPeer } from './testing/raw-peer.ts';

const SIZE = 0x4000;

/** The regions lie apart from each other. */
function region(index: number, size: number = SIZE): RegionDescription {
  const at = BigInt(index) << 50n;
  return { guestAddress: at, size: BigInt(size), userAddress: at, mmapOffset: 0n };
}

function fdOf(size = SIZE): MessageFds {
  return new MessageFds([memfdCreate('region', size)]);
}

describeWithFfi('"Memory access": more than is mapped at most', () => {
  it('is refused before anything is mapped, with its size and the limit, and leaves all as it was', () => {
    const before = openFdCount();
    {
      using table = new MemoryTable({ memorySizeMax: 2 * SIZE });
      using two = new MessageFds([memfdCreate('one', SIZE), memfdCreate('other', SIZE)]);
      expect(table.set([region(0), region(1)], two)).toBeUndefined();
      using third = fdOf(8);
      const fault = { code: 'REFUSED', message: expect.stringMatching(/^0x8008 bytes .*0x8000/) as string };
      expect(table.add(region(2, 8), third)).toMatchObject(fault);
      expect(third.count).toBe(1);
      using large = fdOf(3 * SIZE);
      expect(table.set([region(3, 3 * SIZE)], large)).toMatchObject({ code: 'REFUSED' });
      expect(large.count).toBe(1);
      expect(table.regionCount).toBe(2);
      expect(table.remove(region(1))).toBeUndefined();
      expect(table.add(region(2, 8), third)).toBeUndefined();
    }
    expect(openFdCount()).toBe(before);
  });

  it('is more than 1 TiB, where nothing else is said: of sparse memory anybody has that', () => {
    using table = new MemoryTable();
    const size = MEMORY_SIZE_MAX_DEFAULT + 4096;
    using fds = fdOf(size);
    expect(table.set([region(0, size)], fds)?.message).toMatch(/^0x10000001000 bytes .*0x10000000000/);
  });

  it('is told to who serves; the connection lives on', async () => {
    const reasons: string[] = [];
    await using peer = new RawPeer({ memorySizeMax: SIZE, onRefusal: (reason) => reasons.push(reason) });
    await peer.negotiate();
    using machine = new RawMachine();
    await expect(peer.setMemory(machine)).rejects.toThrow();
    expect(reasons).toEqual([expect.stringMatching(/^SET_MEM_TABLE: 0x100000 bytes .*0x4000/)]);
    const fd = memfdCreate('small', SIZE);
    await peer.ask('SET_MEM_TABLE', [region(0)], fd);
    closeFd(fd);
  });
});

describeWithFfi('memory that is given back', () => {
  it('one mapping that cannot be does not keep the others', () => {
    const given: number[] = [];
    const one = (index: number): Disposable => ({
      [Symbol.dispose]() {
        given.push(index);
        if (index === 1) throw new Error('no room');
      },
    });
    expect(() => disposeAll([one(0), one(1), one(2)])).toThrow('no room');
    expect(given).toEqual([2, 1, 0]);
  });

  it('what goes wrong here at the end of a connection is its error, and all else is given back', async () => {
    const before = openFdCount();
    {
      using machine = new RawMachine();
      await using peer = new RawPeer();
      await peer.negotiate();
      await peer.setMemory(machine);
      const failure = new Error('the device does not let go');
      vi.spyOn(peer.host, 'detach').mockRejectedValueOnce(failure);
      expect(await peer.end()).toEqual({ fault: undefined, error: failure });
      expect(peer.backend.status().regionCount).toBe(0);
      await peer.host.detach();
    }
    expect(openFdCount()).toBe(before);
  });
});

const noHugePages = HugePages.unavailable();
// A machine may have no room for them, or not allow it: nothing that could be installed.
describe.skipIf(noHugePages !== undefined)(
  `huge pages${noHugePages === undefined ? '' : ` (${noHugePages})`}`,
  () => {
    it('a region may lie anywhere in them', () => {
      using pages = new HugePages(2);
      const fd = pages.memfd(2);
      expect(mapPieces(fd, 4096, 8192)).toMatchObject({ fault: { message: /huge pages/ } });
      const whole = mapPieces(fd, 0, 2 * pages.size, true);
      const part = mapPieces(fd, pages.size - 4096, 8192, true);
      closeFd(fd);
      if (!whole.ok || !part.ok) throw new Error('not mapped');
      const [all] = whole.value.pieces;
      const [some] = part.value.pieces;
      all!.u8.fill(7, pages.size - 4096, pages.size + 4096);
      expect(some!.u8.every((byte) => byte === 7)).toBe(true);
      part.value.revoke();
      expect(some!.u8.every((byte) => byte === 0)).toBe(true);
      whole.value.revoke();
    });
  },
);
