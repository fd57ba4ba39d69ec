import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PageAllocator } from './page-allocator.ts';

describe('PageAllocator', () => {
  it('rounds up to whole pages, takes the first run that fits, and counts', () => {
    const pages = new PageAllocator(8192, 4096 * 8 + 100);
    expect(pages.pageCount).toBe(8);
    const one = pages.allocate(1);
    const two = pages.allocate(4097);
    const three = pages.allocate(4096);
    expect([one, two, three]).toEqual([8192, 12_288, 20_480]);
    expect(pages.usedPages).toBe(4);
    pages.free(two, 4097);
    expect(pages.allocate(3 * 4096)).toBe(24_576);
    expect(pages.allocate(2 * 4096)).toBe(12_288);
  });

  it('ENOMEM when pages are left but no run is long enough', () => {
    const pages = new PageAllocator(0, 4096 * 4);
    const all = [0, 1, 2, 3].map(() => pages.allocate(4096));
    pages.free(all[0]!, 4096);
    pages.free(all[2]!, 4096);
    expect(() => pages.allocate(8192)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(pages.usedPages).toBe(2);
  });

  it('a double free, a free inside an allocation, and a free of another size throw', () => {
    const pages = new PageAllocator(0, 4096 * 8);
    const at = pages.allocate(4096 * 3);
    pages.allocate(4096);
    for (const [offset, size] of [
      [at + 4096, 8192],
      [at, 4096],
      [at, 4096 * 4],
      [at + 1, 4096],
      [-4096, 4096],
    ]) {
      expect(() => pages.free(offset!, size!), `${offset}+${size}`).toThrow(RangeError);
    }
    pages.free(at, 4096 * 3);
    expect(() => pages.free(at, 4096 * 3)).toThrow(RangeError);
    expect(pages.usedPages).toBe(1);
  });

  it('live allocations never overlap, and all pages come back', () => {
    const steps = fc.array(
      fc.record({ free: fc.boolean(), pick: fc.nat(30), size: fc.integer({ min: 1, max: 5 }) }),
    );
    fc.assert(
      fc.property(steps, (program) => {
        const pages = new PageAllocator(0, 4096 * 32);
        const live: { offset: number; size: number }[] = [];
        for (const { free, pick, size } of program) {
          if (free && live.length > 0) {
            const [gone] = live.splice(pick % live.length, 1);
            pages.free(gone!.offset, gone!.size);
          } else if (pages.usedPages < 16) {
            const bytes = size * 4096 - 5;
            live.push({ offset: pages.allocate(bytes), size: bytes });
          }
          const ends = live.toSorted((a, b) => a.offset - b.offset);
          ends.reduce((end, { offset, size: bytes }) => {
            expect(offset).toBeGreaterThanOrEqual(end);
            return offset + bytes;
          }, 0);
        }
        for (const { offset, size } of live) pages.free(offset, size);
        expect(pages.usedPages).toBe(0);
        expect(pages.allocate(4096 * 32)).toBe(0);
      }),
    );
  });
});
