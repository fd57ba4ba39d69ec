import { grantRef } from '@virtlab/abi/brands';
import { GNTST_bad_gntref, GNTST_eagain, GNTST_general_error, GNTST_okay } from '@virtlab/abi/grant-table';
import { describe, expect, it } from 'vitest';
import { type OnMachine, granted } from './machine.ts';

/** Ends that have to wait, and `GNTTABOP_swap_grant_ref`. */
export function describeDeferring(machine: OnMachine): void {
  describe('deferred ends', () => {
    it(
      'a grant in use is left to reclaim, which tells when its page is free; one that is not ends at once',
      machine(({ granter, mapper, table, map, unmap }) => {
        const ended: number[] = [];
        const [idle, used] = [1, 2].map((frame) => granted(table.grantAccess(mapper.domain, frame, false)));
        const handle = map(granter.domain, used!, true);
        expect(table.endOrDefer(idle!, () => ended.push(1))).toBe(true);
        expect(ended).toEqual([1]);
        expect(table.endOrDefer(used!, () => ended.push(2))).toBe(false);
        expect(() => table.endAccess(used!)).toThrow(RangeError);
        expect(table.reclaimDeferred()).toBe(1);
        expect(ended).toEqual([1]);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(table.reclaimDeferred()).toBe(0);
        expect(ended).toEqual([1, 2]);
        expect(table.deferral).toMatchObject({
          waitingCount: 0,
          deferredTotal: 1,
          reclaimedTotal: 1,
          retryTotal: 1,
        });
      }),
    );

    it(
      'reclaim takes the oldest first and no more than it was told; the handler runs for the first of a row',
      machine(({ granter, mapper, table, map, unmap }) => {
        let calls = 0;
        table.onDeferred(() => (calls += 1));
        const first = granted(table.grantRange(mapper.domain, 0, 4, false));
        const handles = [0, 1, 2, 3].map((index) => map(granter.domain, grantRef(first + index), false));
        expect(table.endRange(first, 4)).toBe(false);
        expect(calls).toBe(1);
        for (const index of [0, 3]) expect(unmap(handles[index]!)).toBe(GNTST_okay);
        expect(table.reclaimDeferred(2)).toBe(3);
        expect(table.live().map(({ ref }) => ref - first)).toEqual([1, 2, 3]);
        expect(table.reclaimDeferred(2)).toBe(2);
        for (const index of [1, 2]) expect(unmap(handles[index]!)).toBe(GNTST_okay);
        expect(table.reclaimDeferred()).toBe(0);
        expect(table.deferral.waitingCountMax).toBe(4);
        table.onDeferred(undefined);
      }),
    );

    it(
      'are retried by themselves before a table is full',
      machine(({ granter, mapper, table, map, unmap }) => {
        const refs = Array.from({ length: table.capacity }, () =>
          granted(table.grantAccess(mapper.domain, 0, true)),
        );
        const handles = refs.slice(0, 3).map((ref) => map(granter.domain, ref, false));
        for (const ref of refs.slice(0, 3)) expect(table.endOrDefer(ref)).toBe(false);
        expect(table.grantAccess(mapper.domain, 1, true)).toBe(-1);
        for (const handle of handles) expect(unmap(handle)).toBe(GNTST_okay);
        const again = granted(table.grantAccess(mapper.domain, 1, true));
        expect(refs.slice(0, 3)).toContain(again);
        expect(table.deferral.waitingCount).toBe(0);
        for (const { ref } of table.live()) expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'in version 2 nobody maps a deferred entry anew; in version 1 that cannot be prevented',
      machine(({ granter, mapper, table, map, unmap, version }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const handle = map(granter.domain, ref, false);
        expect(table.endOrDefer(ref)).toBe(false);
        expect(unmap(handle)).toBe(GNTST_okay);
        const again = map(granter.domain, ref, false);
        const expected = version === 2 ? GNTST_general_error : GNTST_okay;
        expect(again < 0 ? again : unmap(again)).toBe(expected);
        expect(table.reclaimDeferred()).toBe(0);
      }),
    );
  });
  describeSwapping(machine);
}

function describeSwapping(machine: OnMachine): void {
  describe('swap', () => {
    it(
      'exchanges two entries, free ones too',
      machine(({ granter, mapper, table, map, unmap }) => {
        const [a, b] = [1, 2].map((frame) => granted(table.grantAccess(mapper.domain, frame, false)));
        expect(table.swap(a!, b!)).toBe(GNTST_okay);
        const handle = map(granter.domain, a!, true);
        expect(mapper.mapper.frame).toBe(2);
        expect(unmap(handle)).toBe(GNTST_okay);
        const free = grantRef(b! + 5);
        expect(table.swap(a!, free)).toBe(GNTST_okay);
        expect(table.live().map(({ ref, frame }) => [ref, frame])).toEqual([
          [b, 1],
          [free, 2],
        ]);
        expect(map(granter.domain, a!, false)).toBe(GNTST_general_error);
        expect(table.swap(a!, a!)).toBe(GNTST_okay);
        for (const ref of [b!, free]) expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_bad_gntref beyond the table, and GNTST_eagain while either is in use',
      machine(({ granter, mapper, table, map, unmap, reservedCount }) => {
        const [a, b] = [1, 2].map((frame) => granted(table.grantAccess(mapper.domain, frame, false)));
        const beyond = grantRef(table.capacity + reservedCount);
        expect(table.swap(a!, beyond)).toBe(GNTST_bad_gntref);
        expect(table.swap(beyond, a!)).toBe(GNTST_bad_gntref);
        expect(table.swap(beyond, beyond)).toBe(GNTST_bad_gntref);
        const handle = map(granter.domain, b!, false);
        expect(table.swap(a!, b!)).toBe(GNTST_eagain);
        expect(table.swap(b!, a!)).toBe(GNTST_eagain);
        expect(unmap(handle)).toBe(GNTST_okay);
        const after = map(granter.domain, a!, false);
        expect(mapper.mapper.frame).toBe(1);
        expect(unmap(after)).toBe(GNTST_okay);
        for (const ref of [a!, b!]) expect(table.endAccess(ref)).toBe(true);
      }),
    );
  });
}
