import { type DomId, type GrantRef, domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTST_bad_copy_arg,
  GNTST_bad_domain,
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_okay,
  GNTST_permission_denied,
  GTF_reading,
  GTF_sub_page,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import { GrantCopyList } from '../grant-copy-list.ts';
import { type GrantTest, type OnMachine, granted } from './machine.ts';

const IN_USE = GTF_reading | GTF_writing;
const BOTH = GNTCOPY_source_gref | GNTCOPY_dest_gref;

type Copy = Parameters<GrantCopyList['push']>;

/** Runs copies in one batch; their statuses. */
function copies({ mapper }: GrantTest, ...each: readonly Copy[]): readonly number[] {
  const list = new GrantCopyList(Math.max(each.length, 1));
  for (const copy of each) expect(list.push(...copy)).toBe(true);
  const failedCount = mapper.mapper.copy(list);
  const statuses = [...list.status.subarray(0, list.count)];
  expect(failedCount).toBe(statuses.filter((status) => status !== GNTST_okay).length);
  return statuses;
}

const into = (granter: DomId, ref: GrantRef, offset: number, size: number, frame = 3, to = 0): Copy => [
  GNTCOPY_source_gref,
  granter,
  ref,
  offset,
  DOMID_SELF,
  frame,
  to,
  size,
];
const outOf = (granter: DomId, ref: GrantRef, offset: number, size: number, frame = 3, from = 0): Copy => [
  GNTCOPY_dest_gref,
  DOMID_SELF,
  frame,
  from,
  granter,
  ref,
  offset,
  size,
];

/** `GNTTABOP_copy`: every status, the order of the checks, batches. */
export function describeCopying(machine: OnMachine): void {
  describe('copy', () => {
    it(
      'moves bytes from a grant into an own frame, from an own frame into a grant, and between grants',
      machine((test) => {
        const { granter, mapper, table, flags } = test;
        const [a, b] = [1, 2].map((frame) => granted(table.grantAccess(mapper.domain, frame, false)));
        const ram = granter.view.ram.u8;
        for (let index = 0; index < XEN_PAGE_SIZE; index++) ram[XEN_PAGE_SIZE + index] = (index * 7) & 0xff;
        expect(copies(test, into(granter.domain, a!, 0, XEN_PAGE_SIZE, 5))).toEqual([GNTST_okay]);
        expect(mapper.ram.u8.slice(5 * XEN_PAGE_SIZE, 6 * XEN_PAGE_SIZE)).toEqual(
          ram.slice(XEN_PAGE_SIZE, 2 * XEN_PAGE_SIZE),
        );
        expect(copies(test, outOf(granter.domain, b!, 96, 100, 5, 3))).toEqual([GNTST_okay]);
        expect(ram.slice(2 * XEN_PAGE_SIZE + 96, 2 * XEN_PAGE_SIZE + 196)).toEqual(
          ram.slice(XEN_PAGE_SIZE + 3, XEN_PAGE_SIZE + 103),
        );
        expect(ram[2 * XEN_PAGE_SIZE + 95]).toBe(0);
        expect(ram[2 * XEN_PAGE_SIZE + 196]).toBe(0);
        expect(copies(test, [BOTH, granter.domain, a!, 1, granter.domain, b!, 0, 63])).toEqual([GNTST_okay]);
        expect(ram.slice(2 * XEN_PAGE_SIZE, 2 * XEN_PAGE_SIZE + 63)).toEqual(
          ram.slice(XEN_PAGE_SIZE + 1, XEN_PAGE_SIZE + 64),
        );
        expect([a!, b!].map((ref) => flags(ref) & IN_USE)).toEqual([0, 0]);
        for (const ref of [a!, b!]) expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'within one page is a move: overlapping bytes arrive as they were',
      machine((test) => {
        const { mapper } = test;
        const at = 4 * XEN_PAGE_SIZE;
        for (let index = 0; index < 200; index++) mapper.ram.u8[at + index] = index;
        const expected = mapper.ram.u8.slice(at, at + 150);
        expect(copies(test, [0, DOMID_SELF, 4, 0, DOMID_SELF, 4, 25, 150])).toEqual([GNTST_okay]);
        expect(mapper.ram.u8.slice(at + 25, at + 175)).toEqual(expected);
      }),
    );

    it(
      'fails with GNTST_permission_denied for a frame of another domain, and GNTST_bad_domain for one that is not there',
      machine((test) => {
        const { granter, mapper, table } = test;
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const gone = domId(0x7123);
        const statuses = copies(
          test,
          [0, granter.domain, 1, 0, DOMID_SELF, 3, 0, 8],
          [GNTCOPY_source_gref, granter.domain, ref, 0, granter.domain, 1, 0, 8],
          [GNTCOPY_source_gref, gone, 8, 0, DOMID_SELF, 3, 0, 8],
          [GNTCOPY_dest_gref, DOMID_SELF, 3, 0, gone, 8, 0, 8],
          // The domains before anything else: the source's before the destination's.
          [GNTCOPY_source_gref, gone, 8, 5000, granter.domain, 1, 5000, 8],
          [0, granter.domain, 1, 5000, gone, 8, 5000, 8],
        );
        expect(statuses).toEqual([
          GNTST_permission_denied,
          GNTST_permission_denied,
          GNTST_bad_domain,
          GNTST_bad_domain,
          GNTST_bad_domain,
          GNTST_permission_denied,
        ]);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_bad_gntref beyond the table and GNTST_general_error for what is not granted so',
      machine((test) => {
        const { granter, mapper, stranger, table, reservedCount } = test;
        const [readonly, others] = [
          granted(table.grantAccess(mapper.domain, 1, true)),
          granted(table.grantAccess(stranger.domain, 1, false)),
        ];
        const beyond = grantRef(table.capacity + reservedCount);
        const { domain } = granter;
        expect(
          copies(
            test,
            into(domain, beyond, 5000, 8),
            into(domain, grantRef(0xffff_ffff), 0, 8),
            outOf(domain, beyond, 5000, 8),
            outOf(domain, readonly, 0, 8),
            into(domain, others, 0, 8),
            into(domain, grantRef(reservedCount + 40), 0, 8),
            into(domain, readonly, 0, 8),
          ),
        ).toEqual([
          GNTST_bad_gntref,
          GNTST_bad_gntref,
          GNTST_bad_gntref,
          GNTST_general_error,
          GNTST_general_error,
          GNTST_general_error,
          GNTST_okay,
        ]);
        for (const ref of [readonly, others]) expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'fails with GNTST_bad_copy_arg across a page, and GNTST_bad_page for a frame outside the RAM of either',
      machine((test) => {
        const { granter, mapper, table, setEntry, flags } = test;
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const { domain } = granter;
        const ownFrames = mapper.ram.size / XEN_PAGE_SIZE;
        expect(
          copies(
            test,
            into(domain, ref, 4095, 2),
            into(domain, ref, 0, 2, 3, 4095),
            into(domain, ref, 0, XEN_PAGE_SIZE + 1),
            into(domain, ref, 0xffff_ffff, 0xffff_ffff),
            into(domain, ref, 0, 8, ownFrames),
            into(domain, ref, 0, 8, 0xffff_ffff),
            into(domain, ref, 4095, 1, 3, 4095),
          ),
        ).toEqual([
          GNTST_bad_copy_arg,
          GNTST_bad_copy_arg,
          GNTST_bad_copy_arg,
          GNTST_bad_copy_arg,
          GNTST_bad_page,
          GNTST_bad_page,
          GNTST_okay,
        ]);
        setEntry(ref, { frame: 0xffff_fff0 });
        expect(copies(test, into(domain, ref, 0, 8))).toEqual([GNTST_bad_page]);
        expect(flags(ref) & IN_USE).toBe(0);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'of no bytes is okay whatever else it says',
      machine((test) => {
        expect(copies(test, [BOTH, domId(0x7123), 0xffff_ffff, 9999, domId(0x7123), 7, 9999, 0])).toEqual([
          GNTST_okay,
        ]);
      }),
    );

    it(
      'of what is mapped keeps the mapping’s page and pins, for reading as for writing',
      machine((test) => {
        const { granter, mapper, table, map, unmap, flags, setEntry } = test;
        const ref = granted(table.grantAccess(mapper.domain, 1, false));
        const handle = map(granter.domain, ref, false);
        setEntry(ref, { frame: 6 });
        mapper.ram.u8[3 * XEN_PAGE_SIZE] = 0x5a;
        expect(copies(test, outOf(granter.domain, ref, 9, 1))).toEqual([GNTST_okay]);
        expect(granter.view.ram.u8[XEN_PAGE_SIZE + 9]).toBe(0x5a);
        expect(flags(ref) & IN_USE).toBe(GTF_reading);
        expect(unmap(handle)).toBe(GNTST_okay);
        expect(flags(ref) & IN_USE).toBe(0);
        expect(table.endAccess(ref)).toBe(true);
      }),
    );

    it(
      'a batch goes on after a failure, and leaves nothing in use',
      machine((test) => {
        const { granter, mapper, table, flags } = test;
        const refs = [1, 2, 3].map((frame) => granted(table.grantAccess(mapper.domain, frame, false)));
        const { domain } = granter;
        granter.view.ram.u8.fill(0xab, XEN_PAGE_SIZE, 4 * XEN_PAGE_SIZE);
        const list: Copy[] = [];
        for (let index = 0; index < 40; index++) {
          list.push(into(domain, refs[index % 3]!, index * 8, 8, 7, index * 8));
          if (index % 4 === 0) list.push(into(domain, refs[index % 3]!, 4090, 8, 7));
        }
        const statuses = copies(test, ...list);
        expect(statuses.filter((status) => status === GNTST_bad_copy_arg)).toHaveLength(10);
        expect(statuses.filter((status) => status === GNTST_okay)).toHaveLength(40);
        expect([...mapper.ram.u8.subarray(7 * XEN_PAGE_SIZE, 7 * XEN_PAGE_SIZE + 321)]).toEqual([
          ...Array.from({ length: 320 }, () => 0xab),
          0,
        ]);
        for (const ref of refs) {
          expect(flags(ref) & IN_USE).toBe(0);
          expect(table.endAccess(ref)).toBe(true);
        }
      }),
    );
  });
  describeSubPages(machine);
}

function describeSubPages(machine: OnMachine): void {
  describe('sub-pages', () => {
    it(
      'open their bytes to copies and nothing to a mapping; a version 1 table has none',
      machine((test) => {
        const { granter, mapper, table, map, version, flags } = test;
        const { domain } = granter;
        const misuses = [
          () => table.grantSubPage(mapper.domain, 1, 0, version === 1 ? 8 : 0, false),
          () =>
            table.grantTransitive(mapper.domain, version === 1 ? mapper.domain : domain, grantRef(8), true),
        ];
        for (const misuse of misuses) expect(misuse).toThrow(version === 1 ? TypeError : RangeError);
        if (version === 1) return;
        const ref = granted(table.grantSubPage(mapper.domain, 1, 100, 50, false));
        const readonly = granted(table.grantSubPage(mapper.domain, 1, 0, 4096, true));
        expect(
          copies(
            test,
            into(domain, ref, 100, 50),
            outOf(domain, ref, 149, 1),
            into(domain, ref, 99, 2),
            into(domain, ref, 100, 51),
            into(domain, ref, 150, 1),
            outOf(domain, ref, 0, 1),
            outOf(domain, readonly, 0, 1),
            into(domain, readonly, 0, 4096),
          ),
        ).toEqual([0, 0, -1, -1, -1, -1, -1, 0]);
        expect(map(domain, ref, false)).toBe(GNTST_general_error);
        expect(flags(ref) & GTF_sub_page).toBe(GTF_sub_page);
        for (const bad of [
          [4096, 1],
          [0, 4097],
          [-1, 2],
          [0, 0],
        ] as const)
          expect(() => table.grantSubPage(mapper.domain, 1, bad[0], bad[1], false)).toThrow(RangeError);
        for (const each of [ref, readonly]) expect(table.endAccess(each)).toBe(true);
      }),
    );
  });
}
