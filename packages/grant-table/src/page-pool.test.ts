import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { PageAllocator } from '@virtlab/guest-memory';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PagePool, pageSource } from './page-pool.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

function poolOf(sourcePages: number, options: Partial<ConstructorParameters<typeof PagePool>[0]> = {}) {
  const pages = new PageAllocator(XEN_PAGE_SIZE, sourcePages * XEN_PAGE_SIZE);
  return { pages, pool: new PagePool({ source: pageSource(pages), pageCountMax: 8, ...options }) };
}

const take = (pool: PagePool, count: number): number[] => Array.from({ length: count }, () => pool.take());

describe('page pool', () => {
  it('is bounded: takes from its source up to the bound, then refuses; what is put back is taken again, last first', () => {
    const { pages, pool } = poolOf(20);
    const taken = take(pool, 8);
    expect(new Set(taken).size).toBe(8);
    expect(pool.take()).toBe(-1);
    pool.put(taken[2]!);
    pool.put(taken[5]!);
    expect(pages.usedPages).toBe(8);
    expect(take(pool, 3)).toEqual([taken[5], taken[2], -1]);
    expect(pool.statistics).toEqual({
      pageCount: 8,
      inUseCount: 8,
      emptyCount: 0,
      inUseCountMax: 8,
      emptyCountLow: 0,
      hitTotal: 2,
      missTotal: 8,
      refusedTotal: 2,
      freedTotal: 0,
    });
  });

  it('refuses when its source has nothing, and goes on when it has again', () => {
    const { pages, pool } = poolOf(2);
    const other = pages.allocate(XEN_PAGE_SIZE);
    expect(take(pool, 2)).toEqual([2 * XEN_PAGE_SIZE, -1]);
    pages.free(other, XEN_PAGE_SIZE);
    expect(pool.take()).toBe(other);
  });

  it('trim gives back what was not needed since the last one, a bounded number, and keeps a minimum', () => {
    const { pages, pool } = poolOf(20, { emptyCountMin: 1, trimCountMax: 3 });
    for (const page of take(pool, 8)) pool.put(page);
    expect(pool.trim(), 'all were in use in this period').toBe(0);
    for (const page of take(pool, 2)) pool.put(page);
    expect(pool.statistics.emptyCountLow).toBe(6);
    expect(pool.trim()).toBe(3);
    expect([pool.trim(), pool.trim(), pool.trim()]).toEqual([3, 1, 0]);
    expect([pool.statistics.emptyCount, pages.usedPages]).toEqual([1, 1]);
  });

  it('shrink gives back at once all empty pages but so many', () => {
    const { pages, pool } = poolOf(20);
    const taken = take(pool, 6);
    for (const page of taken.slice(1)) pool.put(page);
    expect(pool.shrink(2)).toBe(3);
    expect(pool.shrink(2)).toBe(0);
    expect(pages.usedPages).toBe(3);
    expect(pool.statistics).toMatchObject({ inUseCount: 1, emptyCount: 2, freedTotal: 3 });
    pool.put(taken[0]!);
    expect(pool.shrink(0)).toBe(3);
    expect(pages.usedPages).toBe(0);
  });

  it('a page that is not in use cannot be put, nor an impossible pool be made', () => {
    const { pool } = poolOf(4);
    const page = pool.take();
    pool.put(page);
    for (const bad of [page, page + 1, 0, -XEN_PAGE_SIZE, 1e9])
      expect(() => pool.put(bad)).toThrow(RangeError);
    for (const bad of [{ pageCountMax: 0 }, { emptyCountMin: 9 }, { trimCountMax: 0 }])
      expect(() => poolOf(4, bad)).toThrow(RangeError);
  });

  it(`any sequence of operations keeps count, and nothing leaks (seed ${SEED})`, () => {
    const op = fc.oneof(
      { arbitrary: fc.constant('take' as const), weight: 4 },
      { arbitrary: fc.constant('put' as const), weight: 3 },
      fc.constantFrom('trim' as const, 'shrink' as const),
    );
    fc.assert(
      fc.property(fc.array(op, { maxLength: 200, size: 'max' }), (ops) => {
        const { pages, pool } = poolOf(6);
        const taken: number[] = [];
        let wrongRefusals = 0;
        for (const each of ops) {
          if (each === 'take') {
            const page = pool.take();
            if (page >= 0) taken.push(page);
            wrongRefusals += Number(page < 0 && taken.length < 6);
          } else if (each === 'put' && taken.length > 0) pool.put(taken.shift()!);
          else if (each === 'trim') pool.trim();
          else if (each === 'shrink') pool.shrink(1);
          const { pageCount, inUseCount, emptyCount } = pool.statistics;
          expect([pageCount, inUseCount]).toEqual([inUseCount + emptyCount, new Set(taken).size]);
          expect(taken).toHaveLength(inUseCount);
          expect(pages.usedPages).toBe(pageCount);
        }
        expect(wrongRefusals).toBe(0);
        for (const page of taken) pool.put(page);
        pool.shrink(0);
        expect(pages.usedPages).toBe(0);
      }),
      { seed: SEED, numRuns: 50 },
    );
  });
});
