import {
  GNTST_bad_domain,
  GNTST_bad_handle,
  GNTST_general_error,
  GNTST_okay,
  GTF_permit_access,
} from '@virtlab/abi/grant-table';
import { describe, expect, it } from 'vitest';
import { type OnMachine, granted } from './machine.ts';

/** A granter that rewrites entries under a mapping, and deaths on either side. */
export function describeHostility(machine: OnMachine): void {
  describe('a hostile granter', () => {
    it(
      'cannot move a mapping: while an entry is mapped its frame is that of the first pin',
      machine(({ granter, mapper, table, map, unmap, setEntry }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const first = map(granter.domain, ref, false);
        setEntry(ref, { frame: 5 });
        const second = map(granter.domain, ref, true);
        expect(mapper.mapper.frame).toBe(1);
        setEntry(ref, { frame: 0xffff_ffff });
        const third = map(granter.domain, ref, true);
        expect(mapper.mapper.frame).toBe(1);
        for (const handle of [first, second, third]) expect(unmap(handle)).toBe(GNTST_okay);
        setEntry(ref, { frame: 1 });
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'that takes an entry away under a mapping changes nothing for what is mapped; a later first map fails',
      machine(({ granter, mapper, table, map, unmap, setEntry, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const first = map(granter.domain, ref, true);
        setEntry(ref, { flags: 0, domain: 0 });
        const second = map(granter.domain, ref, false);
        expect(second).toBeGreaterThanOrEqual(0);
        expect(unmap(first)).toBe(GNTST_okay);
        expect(unmap(second)).toBe(GNTST_okay);
        expect(flags(ref)).toBe(0);
        expect(map(granter.domain, ref, false)).toBe(GNTST_general_error);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'that fills its table with any words makes no operation throw',
      machine(({ granter, mapper, stranger, table, map, unmap, setEntry }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const handles: number[] = [];
        const statuses = new Set<number>();
        for (let flags = 0; flags < 0x200; flags++) {
          for (const domain of [mapper.domain, stranger.domain, 0xffff]) {
            setEntry(ref, { flags, domain, frame: flags % 3 === 0 ? 0xffff_fff0 : 2 });
            const handle = map(granter.domain, ref, flags % 2 === 0);
            if (handle >= 0) handles.push(handle);
            if (handles.length > 20) statuses.add(unmap(handles.shift()!));
          }
        }
        for (const handle of handles) statuses.add(unmap(handle));
        expect(statuses).toEqual(new Set([GNTST_okay]));
        setEntry(ref, { flags: GTF_permit_access, domain: mapper.domain, frame: 1 });
        expect(table.endAccess(ref)).toBe(true);
      }),
    );
  });

  describe('death', () => {
    it(
      'of the granter: maps fail, what is mapped can still be unmapped',
      machine(async ({ granter, mapper, table, map, unmap, killGranter, dead }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const handles = [false, true, true].map((writable) => map(granter.domain, ref, writable));
        await killGranter();
        dead.add(granter.domain);
        expect(map(granter.domain, ref, false)).toBe(GNTST_bad_domain);
        expect(mapper.mapper.ram(granter.domain)).toBeUndefined();
        expect(mapper.mapper.live()).toHaveLength(3);
        for (const handle of handles) expect(unmap(handle)).toBe(GNTST_okay);
        expect(unmap(handles[0]!)).toBe(GNTST_bad_handle);
      }),
    );

    it(
      'of the mapper: the hypervisor releases its pins and no others, the granter can end access',
      machine(async ({ granter, mapper, stranger, table, map, killMapper, dead }) => {
        const theirs = [1, 2, 3].map((frame) => granted(table.grantAccess(mapper.domain, frame, false)));
        const other = granted(table.grantAccess(stranger.domain, 4, false));
        map(granter.domain, theirs[0]!, true);
        map(granter.domain, theirs[1]!, false);
        const kept = stranger.mapper.map(granter.domain, other, true);
        await killMapper();
        dead.add(mapper.domain);
        for (const ref of theirs) expect(table.endAccess(ref)).toBe(true);
        expect(table.isInUse(other)).toBe(true);
        expect(table.endAccess(other)).toBe(false);
        expect(stranger.mapper.unmap(kept as never)).toBe(GNTST_okay);
        expect(table.endAccess(other)).toBe(true);
      }),
    );
  });
}
