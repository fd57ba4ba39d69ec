import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { SegmentList, memoryRegion } from '@virtlab/guest-memory';
import type { DescriptorChain } from '@virtlab/vring';
import { BytesFrame, ChainFrame } from './frame-views.ts';
import type { FrameView } from './network.ts';

/** The parts of a chain that a view looks at: pieces in two regions, with gaps between them. */
function chainOf(sizes: readonly number[]): { chain: DescriptorChain; bytes: Uint8Array } {
  const regions = [memoryRegion(new ArrayBuffer(8192)), memoryRegion(new ArrayBuffer(8192))];
  const segments = new SegmentList();
  const bytes: number[] = [];
  sizes.forEach((size, index) => {
    const at = index * 600 + 5;
    for (let step = 0; step < size; step += 1) {
      const value = (bytes.length * 31 + 7) & 0xff;
      regions[index & 1]!.u8[at + step] = value;
      bytes.push(value);
    }
    segments.push(index & 1, at, size, -1);
  });
  const chain = { segments, regions, readableSize: bytes.length } as unknown as DescriptorChain;
  return { chain, bytes: Uint8Array.from(bytes) };
}

function read(frame: FrameView, at: number, size: number): number[] {
  const target = new Uint8Array(size + 4).fill(0xaa);
  frame.copy(at, size, target, 2);
  expect([...target.subarray(0, 2), ...target.subarray(size + 2)]).toEqual([0xaa, 0xaa, 0xaa, 0xaa]);
  return [...target.subarray(2, size + 2)];
}

describe('views of frames', () => {
  it('give any range of the frame in any order, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 12 }),
        fc.nat(12),
        (sizes, ranges, wantedHeaderSize) => {
          const { chain, bytes } = chainOf(sizes);
          const headerSize = Math.min(wantedHeaderSize, bytes.length);
          const frame = bytes.subarray(headerSize);
          const views = [
            new ChainFrame().set(chain, headerSize),
            new BytesFrame().set(bytes, headerSize),
            new BytesFrame().set(frame),
          ];
          for (const view of views) {
            expect(view.size).toBe(frame.length);
            for (const [from, length] of ranges) {
              const at = from % (frame.length + 1);
              const size = length % (frame.length - at + 1);
              expect(read(view, at, size)).toEqual([...frame.subarray(at, at + size)]);
            }
          }
        },
      ),
    );
  });
});
