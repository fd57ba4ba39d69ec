import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { SegmentList, memoryRegion } from '@virtlab/guest-memory';
import type { DescriptorChain } from '@virtlab/vring';
import { copyRegion } from './copy-bytes.ts';
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
  const parts = { segments, regions, readableSize: bytes.length, readableCount: sizes.length };
  const chain = parts as unknown as DescriptorChain;
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
          const views: readonly FrameView[] = [
            new ChainFrame().set(chain, headerSize),
            new BytesFrame().set(bytes, headerSize),
            new BytesFrame().set(frame),
          ];
          for (const view of views) {
            expect(view.size).toBe(frame.length);
            const { memory, start = 0 } = view;
            expect(memory?.u8.slice(start, start + view.size) ?? frame).toEqual(frame);
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

  it.each([
    ['header and frame in one piece', [60], true],
    ['the header apart', [12, 48], true],
    ['a header in two pieces', [4, 56], false],
    ['a frame in two pieces', [12, 14, 34], false],
  ])('say where the frame lies if that is in one piece: %s', (_what, sizes, isInOnePiece) => {
    const { chain, bytes } = chainOf(sizes);
    const frame = new ChainFrame().set(chain, 12);
    expect(frame.memory !== undefined).toBe(isInOnePiece);
    const lies = frame.memory?.u8.subarray(frame.start, frame.start + frame.size);
    expect(lies).toEqual(isInOnePiece ? bytes.subarray(12) : undefined);
  });
});

describe('copies between memories', () => {
  it('copy what they are told and nothing else, at any offsets', () => {
    fc.assert(
      fc.property(fc.nat(64), fc.nat(64), fc.nat(300), (from, to, size) => {
        const source = memoryRegion(new ArrayBuffer(512));
        const target = memoryRegion(new ArrayBuffer(512));
        for (let at = 0; at < source.size; at += 1) source.u8[at] = (at * 7 + 1) & 0xff;
        const expected = target.u8.fill(0xee).slice();
        expected.set(source.u8.subarray(from, from + size), to);
        copyRegion(source, from, target, to, size);
        expect(target.u8).toEqual(expected);
      }),
    );
  });
});
