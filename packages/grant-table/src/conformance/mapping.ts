import { domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTST_bad_domain,
  GNTST_bad_gntref,
  GNTST_bad_handle,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_no_space,
  GNTST_okay,
  GTF_accept_transfer,
  GTF_invalid,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_transitive,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import { type OnMachine, granted } from './machine.ts';

const IN_USE = GTF_reading | GTF_writing;

/** `map` and `unmap`: the statuses of GNTTABOP_map_grant_ref and unmap_grant_ref, and the in-use bits. */
export function describeMapping(machine: OnMachine): void {
  describe('map', () => {
    it(
      'leads to the granted frame in the granter’s RAM',
      machine(({ granter, mapper, table, map, unmap }) => {
        const ref = granted(table.grantAccess(mapper.domain, 3, false));
        const handle = map(granter.domain, ref, true);
        expect(handle).toBeGreaterThanOrEqual(0);
        expect(mapper.mapper.frame).toBe(3);
        mapper.mapper.ram(granter.domain)!.u8[3 * XEN_PAGE_SIZE + 5] = 0xa7;
        expect(granter.view.ram.u8[3 * XEN_PAGE_SIZE + 5]).toBe(0xa7);
        expect(mapper.mapper.live()).toEqual([{ handle, domain: granter.domain, ref, writable: true }]);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_bad_domain for a domain that is not there, DOMID_SELF included',
      machine(({ map, mapper }) => {
        expect(map(domId(0x7123), grantRef(8), false)).toBe(GNTST_bad_domain);
        expect(map(DOMID_SELF, grantRef(8), false)).toBe(GNTST_bad_domain);
        expect(mapper.mapper.ram(domId(0x7123))).toBeUndefined();
      }),
    );

    it(
      'fails with GNTST_bad_gntref for a reference beyond the table',
      machine(({ granter, map, table, reservedCount }) => {
        const entries = table.capacity + reservedCount;
        for (const ref of [entries, entries + 1, 0x7fff_ffff, 0xffff_ffff]) {
          expect(map(granter.domain, grantRef(ref), false)).toBe(GNTST_bad_gntref);
        }
        expect(map(granter.domain, grantRef(entries - 1), false)).toBe(GNTST_general_error);
      }),
    );

    it(
      'fails with GNTST_general_error for an entry that was never granted, or no longer is',
      machine(({ granter, mapper, map, table, reservedCount }) => {
        expect(map(granter.domain, grantRef(reservedCount + 20), false)).toBe(GNTST_general_error);
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        expect(table.endAccess(ref)).toBe(true);
        expect(map(granter.domain, ref, false)).toBe(GNTST_general_error);
      }),
    );

    it(
      'fails with GNTST_general_error for what was granted to another domain',
      machine(({ granter, mapper, stranger, table, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        expect(stranger.mapper.map(granter.domain, ref, false)).toBe(GNTST_general_error);
        expect(flags(ref) & IN_USE).toBe(0);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_general_error for writing to what is granted read-only, mapped for reading or not',
      machine(({ granter, mapper, map, unmap, table, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, true));
        expect(flags(ref)).toBe(GTF_permit_access | GTF_readonly);
        expect(map(granter.domain, ref, true)).toBe(GNTST_general_error);
        const handle = map(granter.domain, ref, false);
        expect(map(granter.domain, ref, true)).toBe(GNTST_general_error);
        expect(flags(ref) & IN_USE).toBe(GTF_reading);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it.each([
      ['GTF_invalid', GTF_invalid],
      ['GTF_accept_transfer', GTF_accept_transfer],
      ['GTF_transitive', GTF_transitive],
      ['GTF_sub_page', GTF_permit_access | GTF_sub_page],
    ])('fails with GNTST_general_error for an entry of type %s', (_name, type) =>
      machine(({ granter, mapper, map, table, setEntry, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        setEntry(ref, { flags: type });
        expect(map(granter.domain, ref, false)).toBe(GNTST_general_error);
        expect(flags(ref)).toBe(type);
        expect(table.endAccess(ref)).toBe(true);
      })(),
    );

    it(
      'fails with GNTST_bad_page for a frame outside the granter’s RAM, and leaves the entry unused',
      machine(({ granter, mapper, map, table, setEntry, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const frames = granter.view.ram.size / XEN_PAGE_SIZE;
        for (const frame of [frames, frames + 1, 0xf_ffff, 0xffff_ffff]) {
          setEntry(ref, { frame });
          expect(map(granter.domain, ref, true)).toBe(GNTST_bad_page);
          expect(flags(ref) & IN_USE).toBe(0);
        }
        setEntry(ref, { frame: frames - 1 });
        const handle = map(granter.domain, ref, true);
        expect(mapper.mapper.frame).toBe(frames - 1);
        expect(mapper.mapper.unmap(handle as never)).toBe(GNTST_okay);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_general_error for the 129th mapping of an entry: Xen counts in eight bits',
      machine(({ granter, mapper, map, unmap, table }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        for (const writable of [false, true]) {
          const handles = Array.from({ length: 128 }, () => map(granter.domain, ref, writable));
          expect(handles.every((handle) => handle >= 0)).toBe(true);
          expect(map(granter.domain, ref, writable)).toBe(GNTST_general_error);
          for (const handle of handles) expect(unmap(handle)).toBe(GNTST_okay);
        }
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_no_space when no mapping is left; unknown domains are found first, bad references after',
      machine(({ granter, mapper, map, unmap, table, mapCountMax, flags }) => {
        const refs = Array.from({ length: Math.ceil(mapCountMax / 128) + 1 }, () =>
          granted(table.grantAccess(mapper.domain, 1, false)),
        );
        const handles: number[] = [];
        for (let count = 0; count < mapCountMax; count++) {
          handles.push(map(granter.domain, refs[Math.floor(count / 128)]!, false));
        }
        expect(new Set(handles).size).toBe(mapCountMax);
        expect(map(granter.domain, refs.at(-1)!, false)).toBe(GNTST_no_space);
        expect(flags(refs.at(-1)!) & IN_USE).toBe(0);
        expect(map(granter.domain, grantRef(0xffff_ffff), false)).toBe(GNTST_no_space);
        expect(map(domId(0x7123), refs[0]!, false)).toBe(GNTST_bad_domain);
        expect(unmap(handles.pop()!)).toBe(GNTST_okay);
        handles.push(map(granter.domain, refs.at(-1)!, false));
        expect(handles.at(-1)).toBeGreaterThanOrEqual(0);
        for (const handle of handles) unmap(handle);
        for (const ref of refs) expect(table.endAccess(ref)).toBe(true);
      }),
    );
  });
  describeUnmapping(machine);
}

function describeUnmapping(machine: OnMachine): void {
  describe('unmap', () => {
    it(
      'fails with GNTST_bad_handle for a handle that was never given, or was given back',
      machine(({ granter, mapper, map, unmap, table, mapCountMax }) => {
        for (const handle of [0, 1, mapCountMax - 1, mapCountMax, 0xffff_ffff, -1, Number.NaN]) {
          expect(unmap(handle)).toBe(GNTST_bad_handle);
        }
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const handle = map(granter.domain, ref, false);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(unmap(handle)).toBe(GNTST_bad_handle);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'a mapping for reading sets GTF_reading alone, one for writing both; the last unmap clears them',
      machine(({ granter, mapper, map, unmap, table, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const reading = map(granter.domain, ref, false);
        expect(flags(ref)).toBe(GTF_permit_access | GTF_reading);
        expect(unmap(reading)).toBe(GNTST_okay);
        expect(flags(ref)).toBe(GTF_permit_access);
        const writing = map(granter.domain, ref, true);
        expect(flags(ref)).toBe(GTF_permit_access | GTF_reading | GTF_writing);
        expect(unmap(writing)).toBe(GNTST_okay);
        expect(flags(ref)).toBe(GTF_permit_access);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'mappings of one entry are counted: GTF_writing goes with the last writer, GTF_reading with the last of all',
      machine(({ granter, mapper, map, unmap, table, flags }) => {
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const [r1, w1, w2, r2] = [false, true, true, false].map((writable) =>
          map(granter.domain, ref, writable),
        );
        expect(new Set([r1, w1, w2, r2]).size).toBe(4);
        const steps = [
          [w1, IN_USE],
          [r1, IN_USE],
          [w2, GTF_reading],
          [r2, 0],
        ] as const;
        for (const [handle, left] of steps) {
          expect(table.endAccess(ref)).toBe(false);
          expect(unmap(handle!)).toBe(GNTST_okay);
          expect(flags(ref) & IN_USE).toBe(left);
        }
        expect(table.endAccess(ref)).toBe(true);
      }),
    );
  });
}
