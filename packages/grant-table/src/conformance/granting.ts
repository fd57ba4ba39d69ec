import { type GrantRef, grantRef } from '@virtlab/abi/brands';
import { GNTST_general_error, GNTST_okay } from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import { seedGrant } from '../held-entries.ts';
import { type OnMachine, granted } from './machine.ts';

/** The granter's side: references, ranges, ending what is in use. */
export function describeGranting(machine: OnMachine): void {
  describe('granting', () => {
    it(
      'gives each reference once, none of the reserved ones, and -1 when the table is full',
      machine(({ mapper, table, reservedCount }) => {
        expect(table.freeCount).toBe(table.capacity);
        const refs: GrantRef[] = [];
        for (let count = 0; count < table.capacity; count++)
          refs.push(granted(table.grantAccess(mapper.domain, 1, true)));
        expect(new Set(refs).size).toBe(table.capacity);
        expect(Math.min(...refs)).toBe(reservedCount);
        expect(Math.max(...refs)).toBe(reservedCount + table.capacity - 1);
        expect(table.freeCount).toBe(0);
        expect(table.grantAccess(mapper.domain, 1, true)).toBe(-1);
        expect(table.grantRange(mapper.domain, 1, 2, true)).toBe(-1);
        expect(table.endAccess(refs[7]!)).toBe(true);
        expect(table.grantAccess(mapper.domain, 1, true)).toBe(refs[7]);
        for (const ref of refs) expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'a range has consecutive references that lead to consecutive frames',
      machine(({ granter, mapper, table, map, unmap }) => {
        granted(table.grantAccess(mapper.domain, 1, false));
        const first = granted(table.grantRange(mapper.domain, 2, 5, false));
        const handles: number[] = [];
        for (let index = 0; index < 5; index++) {
          handles.push(map(granter.domain, grantRef(first + index), true));
          expect(mapper.mapper.frame).toBe(2 + index);
        }
        for (const handle of handles) expect(unmap(handle)).toBe(GNTST_okay);
        expect(table.live().map(({ frame }) => frame)).toEqual([1, 2, 3, 4, 5, 6]);
        expect(table.endRange(first, 5)).toBe(true);
        expect(table.endAccess(table.live()[0]!.ref)).toBe(true);
      }),
    );

    it(
      'a range is found wherever it fits, and -1 when there is room but not in one piece',
      machine(({ mapper, table, reservedCount }) => {
        const all: GrantRef[] = [];
        while (table.freeCount > 0) all.push(granted(table.grantAccess(mapper.domain, 0, true)));
        // Single holes everywhere, and one of forty references.
        const [begin, end] = [reservedCount + 100, reservedCount + 140];
        const isHole = (ref: number): boolean => ref % 3 === 1 || (ref >= begin && ref < end);
        const largest = Number(isHole(begin - 1)) + 40 + Number(isHole(end));
        for (const ref of all) if (isHole(ref)) table.endAccess(ref);
        expect(table.freeCount).toBeGreaterThan(table.capacity / 3);
        expect(table.grantRange(mapper.domain, 0, largest + 1, true)).toBe(-1);
        const large = granted(table.grantRange(mapper.domain, 0, largest, true));
        expect(large).toBe(begin - Number(isHole(begin - 1)));
        expect(table.endRange(large, largest)).toBe(true);
        for (const { ref } of table.live()) expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'a range does not go round the end of the table',
      machine(({ mapper, table, reservedCount }) => {
        const all: GrantRef[] = [];
        while (table.freeCount > 0) all.push(granted(table.grantAccess(mapper.domain, 0, true)));
        const end = reservedCount + table.capacity;
        const isEdge = (ref: number): boolean => ref < reservedCount + 3 || ref >= end - 3;
        for (const ref of all) if (isEdge(ref)) table.endAccess(ref);
        expect(table.grantRange(mapper.domain, 0, 4, true)).toBe(-1);
        expect([reservedCount, end - 3]).toContain(granted(table.grantRange(mapper.domain, 0, 3, true)));
        expect([reservedCount, end - 3]).toContain(granted(table.grantRange(mapper.domain, 0, 3, true)));
        expect(table.freeCount).toBe(0);
        for (const ref of all) expect(table.endAccess(ref)).toBe(true);
      }),
    );
  });
  describeEnding(machine);
  describeReserved(machine);
}

function describeEnding(machine: OnMachine): void {
  describe('ending', () => {
    it(
      'fails while the entry is mapped, changes nothing, and succeeds after the unmap',
      machine(({ granter, mapper, table, map, unmap, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 4, false));
        const handle = map(granter.domain, ref, true);
        const before = flags(ref);
        expect(table.isInUse(ref)).toBe(true);
        expect(table.endAccess(ref)).toBe(false);
        expect(flags(ref)).toBe(before);
        expect(table.live()).toEqual([{ ref, domain: mapper.domain, frame: 4, deferred: false }]);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(table.isInUse(ref)).toBe(false);
        expect(table.endAccess(ref)).toBe(true);
        expect(map(granter.domain, ref, false)).toBe(GNTST_general_error);
      }),
    );

    it(
      'a range ends as far as it can; what is in use is deferred and reclaimed later',
      machine(({ granter, mapper, table, map, unmap }) => {
        const first = granted(table.grantRange(mapper.domain, 0, 6, false));
        const held = [1, 4].map((index) => map(granter.domain, grantRef(first + index), false));
        expect(table.endRange(first, 6)).toBe(false);
        expect(table.live().map(({ ref, deferred }) => [ref - first, deferred])).toEqual([
          [1, true],
          [4, true],
        ]);
        expect(table.reclaimDeferred()).toBe(2);
        expect(unmap(held[1]!)).toBe(GNTST_okay);
        expect(table.reclaimDeferred()).toBe(1);
        expect(() => table.endAccess(grantRef(first + 1))).toThrow(RangeError);
        expect(unmap(held[0]!)).toBe(GNTST_okay);
        expect(table.reclaimDeferred()).toBe(0);
        expect(table.reclaimDeferred()).toBe(0);
      }),
    );

    it(
      'ending what is not granted, and granting what cannot be, is the caller’s mistake and changes nothing',
      machine(({ granter, mapper, table, reservedCount }) => {
        const ref = granted(table.grantAccess(mapper.domain, 0, false));
        const frames = granter.view.ram.size / XEN_PAGE_SIZE;
        for (const bad of [0, reservedCount + table.capacity, ref + 1, 0xffff_ffff]) {
          expect(() => table.endAccess(grantRef(bad))).toThrow(RangeError);
        }
        expect(() => table.endRange(ref, 2)).toThrow(RangeError);
        expect(() => table.grantAccess(mapper.domain, frames, false)).toThrow(RangeError);
        expect(() => table.grantAccess(mapper.domain, -1, false)).toThrow(RangeError);
        expect(() => table.grantRange(mapper.domain, frames - 1, 2, false)).toThrow(RangeError);
        expect(() => table.grantRange(mapper.domain, 0, 0, false)).toThrow(RangeError);
        expect(() => table.grantAccess(DOMID_SELF, 0, false)).toThrow(RangeError);
        expect(table.live()).toHaveLength(1);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );
  });
}

function describeReserved(machine: OnMachine): void {
  describe('reserved references', () => {
    it(
      'are granted by the builder of the domain, can be mapped, and are none of the table’s',
      machine(({ granter, mapper, table, map, unmap, reservedCount }) => {
        const ref = grantRef(reservedCount - 1);
        seedGrant(granter.view, ref, mapper.domain, 2);
        const handle = map(granter.domain, ref, true);
        expect(mapper.mapper.frame).toBe(2);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(table.live()).toEqual([]);
        expect(table.isInUse(ref)).toBe(false);
        expect(() => table.endAccess(ref)).toThrow(RangeError);
      }),
    );
  });
}
