import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DMA_FAULT_ADDRESS, DMA_OK } from './dma.ts';
import { IdentityDeviceMemory } from './identity-device-memory.ts';
import { memoryRegion } from './memory-region.ts';
import { SegmentList } from './segment-list.ts';

const region = (size: number) => memoryRegion(new ArrayBuffer(size));

function translate(
  memory: IdentityDeviceMemory,
  address: bigint,
  size: number,
): [number, number, number][] | number {
  const list = new SegmentList();
  const status = memory.map(Number(BigInt.asUintN(32, address)), Number(address >> 32n), size, true, list);
  if (status !== DMA_OK) return status;
  memory.unmap(list, 0, list.count);
  return Array.from({ length: list.count }, (_, i) => [list.region[i]!, list.offset[i]!, list.size[i]!]);
}

describe('IdentityDeviceMemory', () => {
  it('refuses ranges that overlap or end beyond 2^64', () => {
    expect(
      () =>
        new IdentityDeviceMemory([
          { guestAddress: 0, region: region(64) },
          { guestAddress: 56n, region: region(8) },
        ]),
    ).toThrow(RangeError);
    expect(() => new IdentityDeviceMemory([{ guestAddress: (1n << 64n) - 32n, region: region(64) }])).toThrow(
      RangeError,
    );
    expect(() => new IdentityDeviceMemory([{ guestAddress: -8, region: region(64) }])).toThrow(RangeError);
  });

  it('a range may end exactly at 2^64, and nothing goes on at 0', () => {
    const end = 1n << 64n;
    const memory = new IdentityDeviceMemory([
      { guestAddress: 0, region: region(64) },
      { guestAddress: end - 64n, region: region(64) },
    ]);
    expect(translate(memory, end - 8n, 8)).toEqual([[1, 56, 8]]);
    expect(translate(memory, end - 8n, 16)).toBe(DMA_FAULT_ADDRESS);
  });

  it('without any range every access faults', () => {
    expect(translate(new IdentityDeviceMemory([]), 0n, 1)).toBe(DMA_FAULT_ADDRESS);
  });

  it('an area lies in one region: across two it is a fault, though adjacent', () => {
    const memory = new IdentityDeviceMemory([
      { guestAddress: 0x1000, region: region(0x1000) },
      { guestAddress: 0x2000n, region: region(0x1000) },
    ]);
    expect(memory.mapArea(0x1ff0n, 32, 8, true)).toBe(DMA_FAULT_ADDRESS);
    expect(translate(memory, 0x1ff0n, 32)).toEqual([
      [0, 0xff0, 16],
      [1, 0, 16],
    ]);
  });

  it('unmapping more than was mapped is a bug', () => {
    const memory = new IdentityDeviceMemory([{ guestAddress: 0, region: region(64) }]);
    const list = new SegmentList();
    memory.map(0, 0, 8, false, list);
    memory.unmap(list, 0, 1);
    expect(memory.mappedSegmentCount).toBe(0);
    expect(() => memory.unmap(list, 0, 1)).toThrow(RangeError);
    expect(() => memory.unmapArea({ region: region(8), offset: 0, size: 8 })).toThrow(RangeError);
  });

  it('agrees with 64-bit arithmetic on big integers, near every border of words and regions', () => {
    const bases = [
      0n,
      0xffff_f000n,
      0x1_0000_0000n,
      0x1_0000_1000n,
      0x7fff_ffff_ffff_f000n,
      0xffff_ffff_ffff_e000n,
    ];
    const ranges = bases.map((guestAddress, index) => ({
      guestAddress,
      region: region(index === 0 ? 64 : 4096),
    }));
    const memory = new IdentityDeviceMemory(ranges);
    const oracle = (address: bigint, size: number): [number, number, number][] | number => {
      const found: [number, number, number][] = [];
      let at = address;
      let rest = BigInt(size);
      while (rest > 0n) {
        const index = ranges.findIndex(
          (r) => at >= r.guestAddress && at < r.guestAddress + BigInt(r.region.size),
        );
        if (index < 0) return DMA_FAULT_ADDRESS;
        const {
          guestAddress,
          region: { size: regionSize },
        } = ranges[index]!;
        const left = guestAddress + BigInt(regionSize) - at;
        const taken = left < rest ? left : rest;
        found.push([index, Number(at - guestAddress), Number(taken)]);
        at += taken;
        rest -= taken;
      }
      return found;
    };
    const near = fc
      .tuple(fc.constantFrom(...bases, 1n << 63n, 1n << 64n), fc.bigInt({ min: -5000n, max: 9000n }))
      .map(([base, delta]) => BigInt.asUintN(64, base + delta));
    fc.assert(
      fc.property(near, fc.oneof(fc.nat(20_000), fc.constantFrom(0xffff_ffff, 0)), (address, size) => {
        expect(translate(memory, address, size)).toEqual(oracle(address, size));
      }),
      { numRuns: 2000 },
    );
  });
});
