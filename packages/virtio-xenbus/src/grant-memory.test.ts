import { type GrantRef, domId } from '@virtlab/abi/brands';
import {
  DMA_BIDIRECTIONAL,
  DMA_FAULT_ADDRESS,
  DMA_FAULT_GRANT,
  DMA_FAULT_LIMIT,
  DMA_FAULT_READONLY,
  DMA_FROM_DEVICE,
  DMA_OK,
  DMA_TO_DEVICE,
  type MappedArea,
  SegmentList,
} from '@virtlab/guest-memory';
import { type LentBytes, describeDeviceMemory, describeDmaMapper } from '@virtlab/guest-memory/conformance';
import { describe, expect, it } from 'vitest';
import { createGrantDeviceMemory } from './grant-device-memory.ts';
import { createGrantDmaMapper } from './grant-dma-mapper.ts';
import { RigDomain } from './testing/rig-domain.ts';
import { XenRig } from './testing/xen-rig.ts';

const PAGE = 4096;

/** Domain 1 lends, domain 2 maps; both without a xenstore home. */
function pair(mapCountMax?: number) {
  const rig = new XenRig();
  const lender = rig.enlist(new RigDomain(rig, domId(1), 128));
  const mapper = rig.enlist(new RigDomain(rig, domId(2), 128));
  const device = createGrantDeviceMemory({
    mapper: mapper.grantMapper,
    frontendDomain: lender.id,
    ...(mapCountMax === undefined ? {} : { mapCountMax }),
  });
  void mapper.mapDomain(lender.id);
  const { memory, pages, grants } = lender;
  const dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: mapper.id });
  const assertQuiescent = (): void => {
    expect([...lender.leaks(), ...mapper.leaks()]).toEqual([]);
    expect(device.mappedPageCount).toBe(0);
  };
  return { rig, lender, mapper, device, dma, assertQuiescent };
}

describeDmaMapper({
  name: 'grants',
  create: () => {
    const { dma, device, assertQuiescent } = pair();
    return { mapper: dma, device, assertQuiescent };
  },
  capabilities: { isolates: true, shareMax: 4 * 512 - 8 },
});

describeDeviceMemory({
  name: 'grants',
  create: () => {
    const { dma, device, lender, assertQuiescent } = pair();
    const lend = (size: number, writable: boolean): LentBytes & { offset: number; direction: 1 | 3 } => {
      const offset = dma.allocate(size);
      const direction = writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
      if (!dma.share(offset, size, direction)) throw new Error('No grant entry is free');
      return {
        address: (BigInt(dma.addressHigh) << 32n) | BigInt(dma.addressLow),
        size,
        offset,
        direction,
        read: () => lender.memory.u8.slice(offset, offset + size),
        write: (bytes) => lender.memory.u8.set(bytes, offset),
      };
    };
    return {
      memory: device,
      lend,
      takeBack: (lent) => {
        const { offset, direction } = lent as ReturnType<typeof lend>;
        const low = Number(lent.address & 0xffff_ffffn);
        expect(dma.unshare(low, Number(lent.address >> 32n), lent.size, direction)).toBe(true);
        dma.free(offset, lent.size);
      },
      nowhere: (1n << 63n) | (2000n << 12n),
      assertQuiescent,
    };
  },
  capabilities: { readOnly: true, isolates: true },
});

describe('grants as device addresses', () => {
  it('grant-dma-ops.c: an address is bit 63, the reference shifted by 12, and the offset in the page', () => {
    const { dma, lender, assertQuiescent } = pair();
    const offset = dma.allocate(2 * PAGE);
    expect(dma.share(offset + 0x123, PAGE, DMA_TO_DEVICE)).toBe(true);
    const refs = lender.grants.live();
    expect(refs.map(({ frame, domain }) => ({ frame, domain }))).toEqual([
      { frame: offset / PAGE, domain: 2 },
      { frame: offset / PAGE + 1, domain: 2 },
    ]);
    expect(refs[1]!.ref).toBe(refs[0]!.ref + 1);
    expect([dma.addressHigh, dma.addressLow]).toEqual([0x8000_0000, (refs[0]!.ref << 12) + 0x123]);
    expect(dma.unshare(dma.addressLow, dma.addressHigh, PAGE, DMA_TO_DEVICE)).toBe(true);
    dma.free(offset, 2 * PAGE);
    assertQuiescent();
  });

  it('a range within one page takes one reference, whatever its place', () => {
    const { dma, lender, assertQuiescent } = pair();
    const offset = dma.allocate(PAGE);
    for (const [at, size] of [
      [0, 1],
      [4095, 1],
      [0, PAGE],
      [100, 3996],
    ] as const) {
      expect(dma.share(offset + at, size, DMA_FROM_DEVICE)).toBe(true);
      expect(lender.grants.live()).toHaveLength(1);
      expect(dma.unshare(dma.addressLow, dma.addressHigh, size, DMA_FROM_DEVICE)).toBe(true);
    }
    dma.free(offset, PAGE);
    assertQuiescent();
  });

  it('memory that is taken back while the device holds it is not used again until it lets go', () => {
    const { dma, device, lender, assertQuiescent } = pair();
    const list = new SegmentList();
    const offset = dma.allocate(3 * PAGE);
    dma.share(offset, 3 * PAGE, DMA_FROM_DEVICE);
    const { addressLow, addressHigh } = dma;
    expect(device.map(addressLow + PAGE, addressHigh, PAGE, true, list)).toBe(DMA_OK);
    expect(dma.unshare(addressLow, addressHigh, 3 * PAGE, DMA_FROM_DEVICE)).toBe(false);
    expect(dma.heldCount).toBe(1);
    dma.free(offset, 3 * PAGE);
    expect(lender.pages.usedPages).toBe(3);
    expect(dma.reclaim()).toBe(1);
    device.unmap(list, 0, list.count);
    expect(dma.reclaim()).toBe(0);
    assertQuiescent();
  });

  it('a coherent buffer that the device holds is quarantined as a whole', () => {
    const { dma, device, lender, assertQuiescent } = pair();
    const buffer = dma.allocateCoherent(2 * PAGE);
    const address = (BigInt(buffer.addressHigh) << 32n) | BigInt(buffer.addressLow);
    const area = device.mapArea(address, 2 * PAGE, 8, true);
    if (typeof area === 'number') throw new Error(`status ${area}`);
    expect(dma.isInUse(buffer)).toBe(true);
    expect(dma.freeCoherent(buffer)).toBe(false);
    expect(lender.pages.usedPages).toBe(2);
    device.unmapArea(area);
    dma.free(dma.allocate(PAGE), PAGE);
    assertQuiescent();
  });

  it('allocateCoherent without grant entries is ENOSPC and keeps no page', () => {
    const { dma, lender, assertQuiescent } = pair();
    const taken = Array.from({ length: lender.grants.capacity }, () =>
      lender.grants.grantAccess(domId(3), 0, true),
    );
    expect(() => dma.allocateCoherent(PAGE)).toThrow(
      expect.objectContaining({ name: 'DmaError', code: 'ENOSPC' }),
    );
    for (const ref of taken) if (ref !== -1) lender.grants.endAccess(ref);
    assertQuiescent();
  });
});

describe('mapping what a frontend granted', () => {
  const low = (address: bigint): number => Number(address & 0xffff_ffffn);
  const high = (address: bigint): number => Number(address >> 32n);

  it.each([
    ['no bit 63: a guest-physical address', 0x1000n, DMA_FAULT_ADDRESS],
    ['a bit between the reference and bit 63', (1n << 63n) | (1n << 44n) | 0x8000n, DMA_FAULT_ADDRESS],
    ['a reference beyond any table', (1n << 63n) | (0xffff_ffffn << 12n), DMA_FAULT_GRANT],
    ['a reference beyond the table', (1n << 63n) | (0x10_0000n << 12n), DMA_FAULT_GRANT],
    ['a reference that grants nothing', (1n << 63n) | (100n << 12n), DMA_FAULT_GRANT],
  ])('%s is a fault', (_, address, status) => {
    const { device, assertQuiescent } = pair();
    const list = new SegmentList();
    expect(device.map(low(address), high(address), 16, false, list)).toBe(status);
    expect(device.mapArea(address, 16, 1, false)).toBe(status);
    expect(list.count).toBe(0);
    assertQuiescent();
  });

  it('a grant for another domain is DMA_FAULT_GRANT, a read-only one is DMA_FAULT_READONLY for writing', () => {
    const { device, lender, assertQuiescent } = pair();
    const list = new SegmentList();
    const foreign = lender.grants.grantAccess(domId(3), 5, false);
    const readonly = lender.grants.grantAccess(domId(2), 6, true);
    expect(device.map(foreign << 12, 0x8000_0000, 16, false, list)).toBe(DMA_FAULT_GRANT);
    expect(device.map(readonly << 12, 0x8000_0000, 16, true, list)).toBe(DMA_FAULT_READONLY);
    expect(device.map(readonly << 12, 0x8000_0000, 16, false, list)).toBe(DMA_OK);
    device.unmap(list, 0, 1);
    for (const ref of [foreign, readonly]) if (ref !== -1) lender.grants.endAccess(ref);
    assertQuiescent();
  });

  it('a range of which one page is not granted is a fault as a whole', () => {
    const { device, lender, assertQuiescent } = pair();
    const list = new SegmentList();
    const first = lender.grants.grantRange(domId(2), 4, 3, false);
    if (first === -1) throw new Error('No grant entry is free');
    lender.grants.endAccess((first + 1) as typeof first);
    expect(device.map(first << 12, 0x8000_0000, 3 * PAGE, true, list)).toBe(DMA_FAULT_GRANT);
    expect(list.count).toBe(0);
    for (const ref of [first, first + 2]) expect(lender.grants.isInUse(ref as typeof first)).toBe(false);
    lender.grants.endAccess(first);
    lender.grants.endAccess((first + 2) as typeof first);
    assertQuiescent();
  });

  it('pages whose frames follow each other make one segment, others do not, and no area', () => {
    const { device, lender, assertQuiescent } = pair();
    const list = new SegmentList();
    const frames = [10, 11, 20, 21, 22, 3];
    const refs = frames.map((frame) => lender.grants.grantAccess(domId(2), frame, false));
    expect(refs.map((ref) => ref - refs[0]!)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(device.map((refs[0]! << 12) + 0x800, 0x8000_0000, 5 * PAGE, true, list)).toBe(DMA_OK);
    const segments = Array.from({ length: list.count }, (_, i) => [list.offset[i], list.size[i]]);
    expect(segments).toEqual([
      [10 * PAGE + 0x800, 2 * PAGE - 0x800],
      [20 * PAGE, 3 * PAGE],
      [3 * PAGE, 0x800],
    ]);
    expect(device.mappedPageCount).toBe(6);
    device.unmap(list, 0, list.count);
    const address = (1n << 63n) | (BigInt(refs[0]!) << 12n);
    expect(device.mapArea(address, 3 * PAGE, 4, true)).toBe(DMA_FAULT_ADDRESS);
    const area = device.mapArea(address, 2 * PAGE, 4, true);
    expect(area).toMatchObject({ offset: 10 * PAGE, size: 2 * PAGE });
    device.unmapArea(area as MappedArea);
    expect(refs.map((ref) => lender.grants.endAccess(ref as GrantRef))).toEqual(refs.map(() => true));
    assertQuiescent();
  });

  it('a page may be mapped far more often than Xen counts mappings of an entry (128)', () => {
    const { device, dma, assertQuiescent } = pair();
    const buffer = dma.allocateCoherent(PAGE);
    const list = new SegmentList();
    for (let use = 0; use < 1000; use += 1) {
      expect(device.map(buffer.addressLow + use, buffer.addressHigh, 1, use % 2 === 0, list)).toBe(DMA_OK);
    }
    expect(device.mappedPageCount).toBe(2);
    device.unmap(list, 0, list.count);
    expect(dma.freeCoherent(buffer)).toBe(true);
    assertQuiescent();
  });

  it('more pages than the device may hold are DMA_FAULT_LIMIT, at once or one by one', () => {
    const { device, dma, assertQuiescent } = pair(4);
    const list = new SegmentList();
    const buffer = dma.allocateCoherent(5 * PAGE);
    expect(device.map(buffer.addressLow, buffer.addressHigh, 5 * PAGE, true, list)).toBe(DMA_FAULT_LIMIT);
    expect(device.map(buffer.addressLow, buffer.addressHigh, 3 * PAGE, true, list)).toBe(DMA_OK);
    expect(device.map(buffer.addressLow + 3 * PAGE, buffer.addressHigh, 2 * PAGE, true, list)).toBe(
      DMA_FAULT_LIMIT,
    );
    expect(device.map(buffer.addressLow + PAGE, buffer.addressHigh, 3 * PAGE, true, list)).toBe(DMA_OK);
    expect(device.mappedPageCount).toBe(4);
    device.unmap(list, 0, list.count);
    expect(dma.freeCoherent(buffer)).toBe(true);
    assertQuiescent();
  });

  it('unmapping what is not mapped is a bug and throws', () => {
    const { device, dma } = pair();
    const list = new SegmentList();
    const buffer = dma.allocateCoherent(PAGE);
    device.map(buffer.addressLow, buffer.addressHigh, 8, true, list);
    device.unmap(list, 0, 1);
    expect(() => device.unmap(list, 0, 1)).toThrow(RangeError);
  });

  it('a frontend that died: mappings end, new ones fault', () => {
    const { rig, device, dma, lender, mapper } = pair();
    const list = new SegmentList();
    const buffer = dma.allocateCoherent(2 * PAGE);
    expect(device.map(buffer.addressLow, buffer.addressHigh, 2 * PAGE, true, list)).toBe(DMA_OK);
    rig.kill(lender);
    expect(device.map(buffer.addressLow, buffer.addressHigh, 8, false, list)).not.toBe(DMA_OK);
    device.unmap(list, 0, list.count);
    expect(mapper.leaks()).toEqual([]);
  });
});
