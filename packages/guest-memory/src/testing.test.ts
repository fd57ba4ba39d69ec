import { describe, expect, it } from 'vitest';
import { DMA_BIDIRECTIONAL, DMA_FAULT_READONLY, DMA_FROM_DEVICE, DMA_OK, DMA_TO_DEVICE } from './dma.ts';
import { IdentityDeviceMemory } from './identity-device-memory.ts';
import { memoryRegion } from './memory-region.ts';
import { SegmentList } from './segment-list.ts';
import { CountingDeviceMemory, HostileDmaMapper, POISON, gather, scatter } from './testing.ts';

function mapLatest(
  mapper: HostileDmaMapper,
  size: number,
  writable: boolean,
  list = new SegmentList(),
): SegmentList {
  const { addressLow, addressHigh } = mapper;
  expect(mapper.deviceMemory.map(addressLow, addressHigh, size, writable, list)).toBe(DMA_OK);
  return list;
}

describe('HostileDmaMapper', () => {
  it('copies on share: what the driver writes later stays unseen', () => {
    const mapper = new HostileDmaMapper();
    const at = mapper.allocate(4096);
    mapper.memory.u8.fill(1, at, at + 16);
    mapper.share(at, 16, DMA_TO_DEVICE);
    mapper.memory.u8.fill(2, at, at + 16);
    const list = mapLatest(mapper, 16, false);
    expect(gather(mapper.deviceMemory, list)).toEqual(new Uint8Array(16).fill(1));
    mapper.deviceMemory.unmap(list, 0, list.count);
    mapper.unshare(mapper.addressLow, mapper.addressHigh, 16, DMA_TO_DEVICE);
    mapper.free(at, 4096);
    mapper.assertNothingLent();
  });

  it('hides what the device wrote until unshare, and poisons what it did not write', () => {
    const mapper = new HostileDmaMapper();
    const at = mapper.allocate(4096);
    mapper.memory.u8.fill(1, at, at + 16);
    mapper.share(at, 16, DMA_FROM_DEVICE);
    const list = mapLatest(mapper, 8, true);
    scatter(mapper.deviceMemory, list, new Uint8Array(8).fill(7));
    mapper.deviceMemory.unmap(list, 0, list.count);
    expect(mapper.memory.u8[at]).toBe(1);
    mapper.unshare(mapper.addressLow, mapper.addressHigh, 16, DMA_FROM_DEVICE);
    expect([...mapper.memory.u8.subarray(at, at + 16)]).toEqual([
      ...Array(8).fill(7),
      ...Array(8).fill(POISON),
    ]);
    mapper.free(at, 4096);
    expect(mapper.memory.u8[at]).toBe(POISON);
  });

  it('keeps the direction: a share to the device is read-only there', () => {
    const mapper = new HostileDmaMapper();
    const at = mapper.allocate(4096);
    mapper.share(at, 16, DMA_TO_DEVICE);
    const { addressLow, addressHigh } = mapper;
    expect(mapper.deviceMemory.map(addressLow, addressHigh, 16, true, new SegmentList())).toBe(
      DMA_FAULT_READONLY,
    );
  });

  it('refuses overlapping shares of which one comes from the device', () => {
    const mapper = new HostileDmaMapper();
    const at = mapper.allocate(4096);
    mapper.share(at, 100, DMA_FROM_DEVICE);
    expect(() => mapper.share(at + 99, 10, DMA_TO_DEVICE)).toThrow(/overlaps/);
    expect(() => mapper.share(at, 100, DMA_BIDIRECTIONAL)).toThrow(/overlaps/);
    expect(mapper.share(at + 100, 10, DMA_TO_DEVICE)).toBe(true);
  });

  it('says false while the device still has the memory mapped, and never uses that memory again', () => {
    const mapper = new HostileDmaMapper();
    const at = mapper.allocate(4096);
    mapper.share(at, 16, DMA_BIDIRECTIONAL);
    const list = mapLatest(mapper, 16, true);
    expect(mapper.unshare(mapper.addressLow, mapper.addressHigh, 16, DMA_BIDIRECTIONAL)).toBe(false);
    const buffer = mapper.allocateCoherent(4096);
    const address = (BigInt(buffer.addressHigh) << 32n) | BigInt(buffer.addressLow);
    mapper.deviceMemory.mapArea(address, 4096, 8, true);
    expect(mapper.freeCoherent(buffer)).toBe(false);
    expect(mapper.allocateCoherent(4096).offset).not.toBe(buffer.offset);
    mapper.deviceMemory.unmap(list, 0, list.count);
    expect(() => mapper.assertNothingLent()).toThrow(/still held by the device/);
  });

  it('an unshare that does not match its share, or comes twice, is an error', () => {
    const mapper = new HostileDmaMapper();
    const at = mapper.allocate(4096);
    mapper.share(at, 16, DMA_TO_DEVICE);
    const { addressLow, addressHigh } = mapper;
    expect(() => mapper.unshare(addressLow, addressHigh, 15, DMA_TO_DEVICE)).toThrow(RangeError);
    expect(() => mapper.unshare(addressLow, 0, 16, DMA_TO_DEVICE)).toThrow(RangeError);
    expect(() => mapper.unshare(addressLow, addressHigh, 16, DMA_FROM_DEVICE)).toThrow(RangeError);
    expect(() => mapper.free(at, 4096)).toThrow(/is freed while/);
    mapper.unshare(addressLow, addressHigh, 16, DMA_TO_DEVICE);
    expect(() => mapper.unshare(addressLow, addressHigh, 16, DMA_TO_DEVICE)).toThrow(RangeError);
  });
});

function countingMemory(): CountingDeviceMemory {
  return new CountingDeviceMemory(
    new IdentityDeviceMemory([{ guestAddress: 0, region: memoryRegion(new ArrayBuffer(4096)) }]),
  );
}

describe('CountingDeviceMemory', () => {
  it('finds what was not unmapped', () => {
    const memory = countingMemory();
    const list = new SegmentList();
    memory.map(0, 0, 8, false, list);
    const area = memory.mapArea(0n, 16, 8, true);
    expect(memory.leaks()).toHaveLength(2);
    expect(() => memory.assertNothingMapped()).toThrow(/Still mapped/);
    memory.unmap(list, 0, 1);
    if (typeof area === 'object') memory.unmapArea(area);
    memory.assertNothingMapped();
  });

  it('finds what was unmapped twice or never mapped', () => {
    const memory = countingMemory();
    const list = new SegmentList();
    memory.map(0, 0, 8, false, list);
    memory.unmap(list, 0, 1);
    expect(() => memory.unmap(list, 0, 1)).toThrow(/not mapped/);
    memory.map(0, 0, 8, false, list);
    list.offset[1] = 16;
    expect(() => memory.unmap(list, 1, 2)).toThrow(/changed meanwhile/);
  });

  it('counts calls and faults', () => {
    const memory = countingMemory();
    memory.map(5000, 0, 8, false, new SegmentList());
    expect([memory.mapCalls, memory.faults]).toEqual([1, 1]);
  });
});
