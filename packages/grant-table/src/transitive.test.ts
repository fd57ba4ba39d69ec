import { type DomId, type GrantHandle, type GrantRef, domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_okay,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import type { GrantVersion } from './contract.ts';
import { GTF_in_transit } from './entries.ts';
import { GrantCopyList } from './grant-copy-list.ts';
import { createGrantMapper } from './grant-mapper.ts';
import { isGrantedTo, isPassedOn, releasePinsOf } from './held-entries.ts';
import { type TestMachine, createTestMachine, testView, versionedView } from './testing.ts';
import { TransitHold } from './transit-hold.ts';

/** Domain 3 grants to domain 4, which passes on to domain 0. */
const OWNER = domId(3);
const BETWEEN = domId(4);

interface Passing extends TestMachine {
  readonly to: DomId;
  /** The owner's reference for `BETWEEN`, to frame 5. */
  readonly ref: GrantRef;
  copyIn(ref: GrantRef, offset: number, size: number): number;
  copyOut(ref: GrantRef, offset: number, size: number): number;
  pass(ref: GrantRef, readonly?: boolean): GrantRef;
}

function passing(version: GrantVersion | 'fixed'): Passing {
  const owned = version === 'fixed' ? testView(1) : versionedView(version, 1);
  const machine = createTestMachine(1, [owned, versionedView(2, 1)]);
  const [owner, between] = machine.granters;
  const { mapper, domain: to } = machine.mappers[0]!;
  const run = (...copy: Parameters<GrantCopyList['push']>): number => {
    const list = new GrantCopyList(1);
    list.push(...copy);
    mapper.copy(list);
    return list.status[0]!;
  };
  return {
    ...machine,
    to,
    ref: owner!.table.grantAccess(BETWEEN, 5, false) as GrantRef,
    pass: (ref, readonly = false) => between!.table.grantTransitive(to, OWNER, ref, readonly) as GrantRef,
    copyIn: (ref, offset, size) => run(GNTCOPY_source_gref, BETWEEN, ref, offset, DOMID_SELF, 1, 0, size),
    copyOut: (ref, offset, size) => run(GNTCOPY_dest_gref, DOMID_SELF, 1, 0, BETWEEN, ref, offset, size),
  };
}

/** Nothing is in use: all grants can be ended. */
function endAll({ granters }: TestMachine): void {
  for (const { table } of granters) {
    for (const { ref } of table.live()) expect(table.endAccess(ref), `reference ${ref}`).toBe(true);
  }
}

describe.each(['fixed', 1, 2] as const)('a transitive grant of what a version %s table grants', (version) => {
  it('is copied from and into, and cannot be mapped', () => {
    const machine = passing(version);
    const { granters, mappers, ref, pass, copyIn, copyOut } = machine;
    const passed = pass(ref);
    const { ram } = granters[0]!.view;
    ram.u8.fill(0x77, 5 * XEN_PAGE_SIZE, 6 * XEN_PAGE_SIZE);
    expect(copyIn(passed, 4000, 96)).toBe(GNTST_okay);
    expect([...mappers[0]!.ram.u8.subarray(XEN_PAGE_SIZE, XEN_PAGE_SIZE + 97)]).toEqual([
      ...Array.from({ length: 96 }, () => 0x77),
      0,
    ]);
    mappers[0]!.ram.u8[XEN_PAGE_SIZE] = 0x12;
    expect(copyOut(passed, 10, 1)).toBe(GNTST_okay);
    expect(ram.u8[5 * XEN_PAGE_SIZE + 10]).toBe(0x12);
    expect(mappers[0]!.mapper.map(BETWEEN, passed, false)).toBe(GNTST_general_error);
    endAll(machine);
  });

  it('is read-only where either grant is, and reaches only what was granted to the domain between', () => {
    const machine = passing(version);
    const { granters, to, ref, pass, copyIn, copyOut } = machine;
    const { table } = granters[0]!;
    const readonly = table.grantAccess(BETWEEN, 6, true) as GrantRef;
    const others = table.grantAccess(to, 7, false) as GrantRef;
    expect([copyOut(pass(ref, true), 0, 8), copyIn(pass(ref, true), 0, 8)]).toEqual([-1, 0]);
    expect([copyOut(pass(readonly), 0, 8), copyIn(pass(readonly), 0, 8)]).toEqual([-1, 0]);
    expect(copyIn(pass(others), 0, 8)).toBe(GNTST_general_error);
    expect(copyIn(pass(grantRef(100)), 0, 8)).toBe(GNTST_general_error);
    expect(copyIn(pass(grantRef(0xffff_ffff)), 0, 8)).toBe(GNTST_bad_gntref);
    endAll(machine);
  });

  it('fails with GNTST_bad_page for a frame outside the RAM of the owner', () => {
    const machine = passing(version);
    const { granters, ref, pass, copyIn } = machine;
    const { view } = granters[0]!;
    const frame =
      version === 2 ? view.control!.entriesV2 / 4 + ref * 4 + 2 : view.tableOffset / 4 + ref * 2 + 1;
    view.table.u32[frame] = 0xffff_fff0;
    expect(copyIn(pass(ref), 0, 8)).toBe(GNTST_bad_page);
    endAll(machine);
  });

  it('does not disturb a mapping that the domain between has, and is not disturbed by its end', () => {
    const machine = passing(version);
    const { granters, ref, pass, copyIn, tables } = machine;
    const { table, view } = granters[0]!;
    const peers = { table: (domain: DomId) => tables.get(domain) };
    const between = createGrantMapper({ domain: BETWEEN, mapCountMax: 8, peers });
    const handle = between.map(OWNER, ref, true) as GrantHandle;
    expect(copyIn(pass(ref), 0, 8)).toBe(GNTST_okay);
    expect(table.endAccess(ref), 'still mapped').toBe(false);
    const hold = new TransitHold();
    expect(hold.take(view, BETWEEN, domId(0), ref, false)).toBe(GNTST_okay);
    expect(between.unmap(handle)).toBe(GNTST_okay);
    expect(table.isInUse(ref)).toBe(true);
    expect(table.endAccess(ref), 'still being copied').toBe(false);
    hold.release();
    expect(table.endAccess(ref)).toBe(true);
    endAll(machine);
  });

  it('is GNTST_eagain while another domain copies by the same entry', () => {
    const machine = passing(version);
    const { granters, ref, pass, copyIn } = machine;
    const hold = new TransitHold();
    expect(hold.take(granters[0]!.view, BETWEEN, domId(9), ref, false)).toBe(GNTST_okay);
    const passed = pass(ref);
    expect(copyIn(passed, 0, 8)).toBe(GNTST_eagain);
    hold.release();
    expect(copyIn(passed, 0, 8)).toBe(GNTST_okay);
    endAll(machine);
  });
});

describe('a transitive grant', () => {
  it('fails with GNTST_general_error to its own granter, to a domain that is not there, and to a second step', () => {
    const machine = passing(2);
    const { granters, to, ref, copyIn } = machine;
    const [owner, between] = granters;
    expect(() => between!.table.grantTransitive(to, BETWEEN, ref, true)).toThrow(RangeError);
    const gone = between!.table.grantTransitive(to, domId(77), ref, true) as GrantRef;
    expect(copyIn(gone, 0, 8)).toBe(GNTST_general_error);
    const { view } = between!;
    view.table.u16[view.control!.entriesV2 / 2 + gone * 8 + 2] = BETWEEN;
    expect(copyIn(gone, 0, 8)).toBe(GNTST_general_error);
    const second = owner!.table.grantTransitive(BETWEEN, domId(4), grantRef(9), true) as GrantRef;
    const step = between!.table.grantTransitive(to, OWNER, second, true) as GrantRef;
    expect(copyIn(step, 0, 8)).toBe(GNTST_general_error);
    endAll(machine);
  });

  it('of a sub-page opens the bytes of the sub-page', () => {
    const machine = passing(2);
    const { granters, pass, copyIn, copyOut } = machine;
    const part = granters[0]!.table.grantSubPage(BETWEEN, 5, 512, 64, false) as GrantRef;
    const passed = pass(part);
    expect([copyIn(passed, 512, 64), copyOut(passed, 575, 1)]).toEqual([GNTST_okay, GNTST_okay]);
    expect([copyIn(passed, 511, 2), copyIn(passed, 512, 65), copyOut(passed, 0, 1)]).toEqual([-1, -1, -1]);
    endAll(machine);
  });

  it('as source and destination of one copy fails, and leaves nothing in use', () => {
    const machine = passing(2);
    const { mappers, ref, pass } = machine;
    const passed = pass(ref);
    const list = new GrantCopyList(1);
    list.push(GNTCOPY_source_gref | GNTCOPY_dest_gref, BETWEEN, passed, 0, BETWEEN, passed, 64, 8);
    expect(mappers[0]!.mapper.copy(list)).toBe(1);
    expect(list.status[0]).toBe(GNTST_general_error);
    endAll(machine);
  });

  it('is known to the hypervisor: who is passed on what, and what a domain that died in a copy held', () => {
    for (const version of [1, 2] as const) {
      const machine = passing(version);
      const { granters, to, ref, pass } = machine;
      const [owner, between] = granters;
      pass(ref);
      expect(isGrantedTo(owner!.view, to)).toBe(false);
      expect([isPassedOn(between!.view, OWNER, to), isPassedOn(between!.view, to, to)]).toEqual([
        true,
        false,
      ]);
      expect(isPassedOn(owner!.view, BETWEEN, to)).toBe(false);
      expect(isGrantedTo(between!.view, to)).toBe(true);
      const hold = new TransitHold();
      expect(hold.take(owner!.view, BETWEEN, to, ref, true)).toBe(GNTST_okay);
      expect(owner!.table.endAccess(ref)).toBe(false);
      expect(releasePinsOf(owner!.view, domId(1))).toBe(0);
      expect(releasePinsOf(owner!.view, to)).toBe(1);
      expect(owner!.table.isInUse(ref)).toBe(false);
      expect(hold.take(owner!.view, BETWEEN, domId(8), ref, true)).toBe(GNTST_okay);
      hold.release();
      endAll(machine);
    }
  });

  it('marks what it uses with a bit that is none of Xen’s', () => {
    expect(GTF_in_transit & 0x1ff).toBe(0);
  });
});
