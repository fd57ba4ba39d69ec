import { describe, expect, it } from 'vitest';
import { IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import { LentBuffers } from './lent-buffers.ts';

describe('LentBuffers', () => {
  it.each([
    [100, 2048],
    [7, 4096],
    [9, 69_632],
    [40, 1528],
  ])('%i of %i bytes: addresses follow the offsets, also across 2^32', (count, size) => {
    const base = 0x1_ffff_8000n;
    const dma = new IdentityDmaMapper(memoryRegion(new ArrayBuffer(1 << 20)), { baseAddress: base });
    const buffers = new LentBuffers(dma, { count, size });
    const taken = new Set<number>();
    for (let index = 0; index < count; index += 1) {
      const address = (BigInt(buffers.addressHigh[index]!) << 32n) + BigInt(buffers.addressLow[index]!);
      expect(address - base).toBe(BigInt(buffers.offset[index]!));
      for (const other of taken)
        expect(Math.abs(other - buffers.offset[index]!)).toBeGreaterThanOrEqual(size);
      taken.add(buffers.offset[index]!);
    }
    buffers.release();
    expect([dma.coherentCount, dma.usedPages]).toEqual([0, 0]);
  });

  it('keeps nothing when there is not enough memory', () => {
    const dma = new HostileDmaMapper({ memorySize: 256 << 10 });
    expect(() => new LentBuffers(dma, { count: 256, size: 2048 })).toThrow('ENOMEM');
    dma.assertNothingLent();
  });
});
