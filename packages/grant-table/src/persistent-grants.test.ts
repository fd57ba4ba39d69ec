import { type GrantRef, grantRef } from '@virtlab/abi/brands';
import { GNTST_bad_gntref, GNTST_general_error } from '@virtlab/abi/grant-table';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PersistentGrants } from './persistent-grants.ts';
import { type TestMachine, createTestMachine } from './testing.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

interface Rig extends TestMachine {
  readonly kept: PersistentGrants;
  readonly refs: readonly GrantRef[];
  /** Milliseconds. */
  clock: number;
}

function rig(countMax: number, refCount: number, readonly = false, unusedMs?: number): Rig {
  const machine = createTestMachine();
  const { granter, mappers } = machine;
  const { mapper, domain } = mappers[0]!;
  const refs = Array.from(
    { length: refCount },
    (_, frame) => granter.table.grantAccess(domain, frame, readonly) as GrantRef,
  );
  const made: Rig = {
    ...machine,
    refs,
    clock: 0,
    kept: new PersistentGrants({
      mapper,
      domain: granter.domain,
      countMax,
      now: () => made.clock,
      ...(unusedMs === undefined ? {} : { unusedMs }),
    }),
  };
  return made;
}

/** Uses a reference once. */
function use({ kept }: Rig, ref: GrantRef, writable = true): number {
  const slot = kept.acquire(ref, writable);
  if (slot >= 0) kept.release(slot);
  return slot;
}

function finish(each: Rig): void {
  each.kept.stopKeeping();
  expect(each.mappers[0]!.mapper.live()).toEqual([]);
  for (const ref of each.refs) expect(each.granter.table.endAccess(ref)).toBe(true);
}

describe('persistent grants', () => {
  it('a reference is mapped once and found mapped from then on; its granter cannot end it', () => {
    const each = rig(4, 2);
    const slot = each.kept.acquire(each.refs[1]!, true);
    expect(each.kept.frameOf(slot)).toBe(1);
    expect(each.kept.acquire(each.refs[1]!, false)).toBe(slot);
    each.kept.release(slot);
    each.kept.release(slot);
    for (let times = 0; times < 10; times++) expect(use(each, each.refs[1]!)).toBe(slot);
    expect(each.granter.table.endAccess(each.refs[1]!)).toBe(false);
    expect(each.kept.statistics).toMatchObject({ mapCount: 1, inUseCount: 0, missTotal: 1, hitTotal: 11 });
    finish(each);
  });

  it('beyond the bound the one that was not used for longest goes', () => {
    const each = rig(3, 5);
    for (const ref of [0, 1, 2, 0, 3].map((index) => each.refs[index]!)) use(each, ref);
    const mapped = each.mappers[0]!.mapper.live().map(({ ref }) => each.refs.indexOf(ref));
    expect(new Set(mapped)).toEqual(new Set([0, 2, 3]));
    expect(each.kept.statistics).toMatchObject({ mapCount: 3, evictedTotal: 1, mapCountMax: 3 });
    finish(each);
  });

  it('when all that is kept is in use more can be mapped, and is not kept', () => {
    const each = rig(2, 4);
    const slots = each.refs.map((ref) => each.kept.acquire(ref, true));
    expect(each.kept.statistics).toMatchObject({ mapCount: 4, inUseCount: 4 });
    for (const slot of slots) each.kept.release(slot);
    expect(each.kept.statistics).toMatchObject({ mapCount: 2, inUseCount: 0, overflowTotal: 2 });
    finish(each);
  });

  it('what was mapped for reading is mapped for writing when that is wanted, if it may', () => {
    const each = rig(4, 1);
    const slot = each.kept.acquire(each.refs[0]!, false);
    expect(each.kept.acquire(each.refs[0]!, true)).toBe(slot);
    expect(each.mappers[0]!.mapper.live()).toMatchObject([{ writable: true }]);
    each.kept.release(slot);
    each.kept.release(slot);
    finish(each);
    const readonly = rig(4, 1, true);
    const reading = readonly.kept.acquire(readonly.refs[0]!, false);
    expect(readonly.kept.acquire(readonly.refs[0]!, true)).toBe(GNTST_general_error);
    readonly.kept.release(reading);
    expect(readonly.kept.statistics.failedTotal).toBe(1);
    finish(readonly);
  });

  it('a reference that cannot be mapped is its status, costs no memory, and is tried again', () => {
    const each = rig(4, 1);
    expect(each.kept.acquire(grantRef(0xffff_ffff), true)).toBe(GNTST_bad_gntref);
    expect(each.kept.acquire(grantRef(300), true)).toBe(GNTST_general_error);
    expect(each.kept.acquire(grantRef(300), true)).toBe(GNTST_general_error);
    expect(each.kept.statistics).toMatchObject({ mapCount: 0, failedTotal: 3 });
    finish(each);
  });

  it('purge ends what nobody used for long, and spare ones once the bound was reached', () => {
    const each = rig(40, 60, false, 1000);
    for (const ref of each.refs.slice(0, 40)) use(each, ref);
    each.clock = 900;
    for (const ref of each.refs.slice(0, 10)) use(each, ref);
    expect(each.kept.purge()).toBe(0);
    each.clock = 1000;
    expect(each.kept.purge()).toBe(30);
    for (const ref of each.refs.slice(10, 41)) use(each, ref);
    expect(each.kept.statistics.mapCount).toBe(40);
    expect(each.kept.purge(), '5 % of the bound, which was reached').toBe(2);
    expect(each.kept.purge()).toBe(0);
    finish(each);
  });

  it('when keeping stops what is in use stays until it is released, and nothing is kept after', () => {
    const each = rig(4, 3);
    const slot = each.kept.acquire(each.refs[0]!, true);
    use(each, each.refs[1]!);
    expect(each.kept.stopKeeping()).toBe(1);
    expect(each.kept.statistics.mapCount).toBe(1);
    each.kept.release(slot);
    expect(() => each.kept.release(slot)).toThrow(RangeError);
    use(each, each.refs[2]!);
    expect(each.kept.statistics).toMatchObject({ mapCount: 0, inUseCount: 0 });
    finish(each);
  });

  it('a granter that is gone takes nothing with it: what was mapped can be released and ended', () => {
    const each = rig(4, 2);
    const slot = each.kept.acquire(each.refs[0]!, true);
    use(each, each.refs[1]!);
    each.tables.delete(each.granter.domain);
    expect(each.kept.stopKeeping()).toBe(1);
    each.kept.release(slot);
    expect(each.mappers[0]!.mapper.live()).toEqual([]);
  });

  it(`any sequence of operations keeps the bound and leaks nothing (seed ${SEED})`, () => {
    const op = fc.record({
      kind: fc.constantFrom('acquire', 'acquire', 'release', 'purge', 'wait'),
      pick: fc.nat({ max: 11 }),
      writable: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 150, size: 'max' }), (ops) => {
        const each = rig(5, 12, false, 50);
        const held: number[] = [];
        let wrongFrames = 0;
        for (const { kind, pick, writable } of ops) {
          if (kind === 'acquire') {
            const slot = each.kept.acquire(each.refs[pick]!, writable);
            wrongFrames += Number(each.kept.frameOf(slot) !== pick);
            held.push(slot);
          } else if (kind === 'release' && held.length > 0)
            each.kept.release(held.splice(pick % held.length, 1)[0]!);
          else if (kind === 'purge') each.kept.purge();
          else if (kind === 'wait') each.clock += 20;
          const { mapCount, inUseCount } = each.kept.statistics;
          expect(inUseCount).toBe(new Set(held).size);
          expect(mapCount).toBeLessThanOrEqual(Math.max(5, inUseCount));
          expect(each.mappers[0]!.mapper.live()).toHaveLength(mapCount);
        }
        expect(wrongFrames).toBe(0);
        for (const slot of held) each.kept.release(slot);
        finish(each);
      }),
      { seed: SEED, numRuns: 40 },
    );
  });
});
