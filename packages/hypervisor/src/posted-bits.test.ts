import { describeExplorations } from '@virtlab/explorer/vitest';
import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import { explorations } from './explore/posted-bits.explore.ts';
import { POSTED_BIT_COUNT, PostedBits } from './posted-bits.ts';

describe('PostedBits', () => {
  it('hands over every posted bit once, whatever its word', () => {
    const bits = new PostedBits(memoryRegion(new ArrayBuffer(128)), 64);
    const posted = [0, 1, 31, 32, 63, 200, POSTED_BIT_COUNT - 1];
    for (const bit of posted) bits.post(bit);
    bits.post(31);
    const taken: number[] = [];
    expect(bits.hasOutstanding()).toBe(true);
    expect(bits.drain((bit) => taken.push(bit))).toBe(posted.length);
    expect(taken).toEqual(posted);
    expect(bits.drain(() => {})).toBe(0);
  });

  it('keeps what is posted while it is drained', () => {
    const bits = new PostedBits(memoryRegion(new ArrayBuffer(64)), 0);
    bits.post(3);
    const taken: number[] = [];
    while (
      bits.drain((bit) => {
        taken.push(bit);
        if (taken.length < 3) bits.post(bit === 3 ? 2 : 9);
      }) > 0
    );
    expect(taken).toEqual([3, 2, 9]);
  });
});

describeExplorations('posting and draining lose no bit in any interleaving', explorations);
