import { type GrantHandle, type GrantRef, domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTST_bad_gntref,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_okay,
  GNTTAB_NR_RESERVED_ENTRIES,
  GTF_sub_page,
} from '@virtlab/abi/grant-table';
import { describe, expect, it } from 'vitest';
import type { GrantTableView } from './contract.ts';
import { grantVersionOf, maptrackFramesMax, nextState, stateOf } from './control-words.ts';
import { ENTRY_WORDS_V2, FRAME_HIGH_WORD_V2 } from './entries.ts';
import { createGrantMapper } from './grant-mapper.ts';
import { createGrantTable } from './grant-table.ts';
import { isGrantedTo, releasePinsOf, seedGrant } from './held-entries.ts';
import { type ControlledTable, controlledTable, testGranter, testView } from './testing.ts';

const GRANTER = domId(3);
const MAPPER = domId(0);
const RESERVED = grantRef(1);

function mapperOf(view: GrantTableView) {
  return createGrantMapper({ domain: MAPPER, mapCountMax: 64, peers: { table: () => view } });
}

/** Offset of a version 2 entry's word 0 in 32-bit words. */
function entryV2(view: GrantTableView, ref: number): number {
  return view.control!.entriesV2 / 4 + ref * ENTRY_WORDS_V2;
}

describe('GNTTABOP_set_version', () => {
  it('EINVAL for what is no version, ENOSYS for one that the domain may not have; its own is nothing to do', () => {
    const { control } = controlledTable(1, { versionMax: 1 });
    expect([0, 3, -1].map((version) => control.setVersion(version))).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect(control.setVersion(2)).toBe('ENOSYS');
    expect(control.setVersion(1)).toBeUndefined();
    expect(control.version).toBe(1);
  });

  it('keeps the reserved entries in both directions, in use or not, and loses all others', () => {
    const { view, control } = controlledTable(2);
    const mapper = mapperOf(view);
    seedGrant(view, RESERVED, MAPPER, 7);
    const before = testGranter(GRANTER, view).table;
    before.grantAccess(MAPPER, 9, false);
    const handle = mapper.map(GRANTER, RESERVED, true) as GrantHandle;
    for (const version of [2, 1, 2]) {
      expect(control.setVersion(version)).toBeUndefined();
      expect(grantVersionOf(view)).toBe(version);
      const { table } = testGranter(GRANTER, view);
      expect(table.version).toBe(version);
      expect(mapper.map(GRANTER, grantRef(GNTTAB_NR_RESERVED_ENTRIES), false)).toBe(GNTST_general_error);
      const again = mapper.map(GRANTER, RESERVED, false) as GrantHandle;
      expect(mapper.frame).toBe(7);
      expect(table.swap(RESERVED, grantRef(0)), 'in use').toBe(GNTST_eagain);
      expect(mapper.unmap(again)).toBe(GNTST_okay);
      expect(isGrantedTo(view, MAPPER)).toBe(true);
    }
    expect(mapper.unmap(handle)).toBe(GNTST_okay);
    expect(testGranter(GRANTER, view).table.swap(RESERVED, grantRef(0))).toBe(GNTST_okay);
    expect(control.setVersion(1)).toBeUndefined();
    expect(mapper.map(GRANTER, grantRef(0), true)).toBeGreaterThanOrEqual(0);
    expect(mapper.frame).toBe(7);
  });

  it('EBUSY while an entry that is not reserved is in use, of either version; the table stays as it is', () => {
    for (const version of [1, 2] as const) {
      const { view, control } = controlledTable(1);
      control.setVersion(version);
      const { table } = testGranter(GRANTER, view);
      const mapper = mapperOf(view);
      const ref = table.grantAccess(MAPPER, 5, false) as GrantRef;
      const handle = mapper.map(GRANTER, ref, false) as GrantHandle;
      expect(control.setVersion(3 - version)).toBe('EBUSY');
      expect(control.version).toBe(version);
      expect(mapper.unmap(mapper.map(GRANTER, ref, true) as GrantHandle)).toBe(GNTST_okay);
      expect(mapper.unmap(handle)).toBe(GNTST_okay);
      expect(control.setVersion(3 - version)).toBeUndefined();
    }
  });

  it('ERANGE for reserved entries that version 1 cannot have: transitive, or a frame of more than 32 bits', () => {
    const { view, control } = controlledTable(1);
    control.setVersion(2);
    const { table } = testGranter(GRANTER, view);
    const transitive = table.grantTransitive(MAPPER, domId(9), grantRef(1), true) as GrantRef;
    expect(table.swap(RESERVED, transitive)).toBe(GNTST_okay);
    expect(control.setVersion(1)).toBe('ERANGE');
    expect(control.version).toBe(2);
    expect(table.swap(RESERVED, transitive)).toBe(GNTST_okay);
    seedGrant(view, RESERVED, MAPPER, 7);
    view.table.u32[entryV2(view, RESERVED) + FRAME_HIGH_WORD_V2] = 1;
    expect(control.setVersion(1)).toBe('ERANGE');
    view.table.u32[entryV2(view, RESERVED) + FRAME_HIGH_WORD_V2] = 0;
    expect(control.setVersion(1)).toBeUndefined();
  });

  it('EAGAIN while an operation that version 1 does not know is under way on a reserved entry', () => {
    const { view, control } = controlledTable(1);
    control.setVersion(2);
    seedGrant(view, RESERVED, MAPPER, 7);
    view.table.u32[entryV2(view, RESERVED)]! |= GTF_sub_page;
    const mapper = mapperOf(view);
    view.table.u16[view.control!.status / 2 + RESERVED] = 8; // GTF_reading, as a copy sets it
    expect(control.setVersion(1)).toBe('EAGAIN');
    expect(releasePinsOf(view, MAPPER)).toBe(1);
    expect(control.setVersion(1)).toBeUndefined();
    expect(mapper.live()).toEqual([]);
  });

  it('meanwhile a mapping is GNTST_eagain, and an own table cannot be made', () => {
    const { view } = controlledTable(1);
    const mapper = mapperOf(view);
    seedGrant(view, RESERVED, MAPPER, 7);
    expect(mapper.map(GRANTER, RESERVED, false)).toBeGreaterThanOrEqual(0);
    const state = view.control!.words / 4;
    const before = stateOf(view);
    view.table.i32[state] = nextState(before, 0) - 1;
    expect(mapper.map(GRANTER, RESERVED, false)).toBe(GNTST_eagain);
    expect(() => createGrantTable({ domain: GRANTER, view, reservedCount: 8 })).toThrow(TypeError);
    view.table.i32[state] = before;
    expect(mapper.map(GRANTER, RESERVED, false)).toBeGreaterThanOrEqual(0);
  });

  it('that begins while an entry is being pinned is seen by the mapper, which lets go', () => {
    for (const version of [1, 2] as const) {
      const { view, control } = controlledTable(1);
      control.setVersion(version);
      const { table } = testGranter(GRANTER, view);
      const ref = table.grantAccess(MAPPER, 5, false) as GrantRef;
      const mapper = mapperOf(view);
      expect(mapper.unmap(mapper.map(GRANTER, ref, true) as GrantHandle)).toBe(GNTST_okay);
      const real = Atomics[version === 1 ? 'compareExchange' : 'or'].bind(Atomics) as (
        ...args: never[]
      ) => number;
      const name = version === 1 ? 'compareExchange' : 'or';
      const whole = Atomics as unknown as Record<string, unknown>;
      let outcome: unknown;
      whole[name] = (...args: never[]) => {
        whole[name] = real;
        outcome = control.setVersion(3 - version);
        return real(...args);
      };
      expect(mapper.map(GRANTER, ref, true)).toBe(version === 1 ? GNTST_general_error : GNTST_general_error);
      expect(outcome).toBeUndefined();
      expect(control.version).toBe(3 - version);
      expect(control.setVersion(version), 'nothing is left in use').toBeUndefined();
    }
  });
});

describe('GNTTABOP_setup_table, query_size, get_status_frames', () => {
  const sizes = ({ control }: ControlledTable): readonly number[] => [
    control.frameCount,
    control.frameCountMax,
  ];

  it('a table starts with as many frames as it was told, grows, never shrinks, and not beyond its limit', () => {
    const controlled = controlledTable(8, { frameCount: 1, frameCountMax: 4 });
    const { control } = controlled;
    expect(sizes(controlled)).toEqual([1, 4]);
    expect(control.setupTable(3)).toBe(GNTST_okay);
    expect(control.setupTable(2)).toBe(GNTST_okay);
    expect(sizes(controlled)).toEqual([3, 4]);
    expect(control.setupTable(5)).toBe(GNTST_general_error);
    expect(sizes(controlled)).toEqual([3, 4]);
  });

  it('references of new frames are beyond the table before and can be granted and mapped after', () => {
    for (const version of [1, 2] as const) {
      const { view, control } = controlledTable(2, { frameCount: 1 });
      control.setVersion(version);
      const { table } = testGranter(GRANTER, view);
      const mapper = mapperOf(view);
      const capacity = version === 1 ? 504 : 248;
      expect([table.capacity, table.frameCount]).toEqual([capacity, 1]);
      while (table.freeCount > 0) table.grantAccess(MAPPER, 1, false);
      const next = grantRef(capacity + 8);
      expect(table.grantAccess(MAPPER, 1, false)).toBe(-1);
      expect(mapper.map(GRANTER, next, false)).toBe(GNTST_bad_gntref);
      expect(control.setupTable(2)).toBe(GNTST_okay);
      expect(table.grantAccess(MAPPER, 6, false), 'without being told').toBe(next);
      expect(table.capacity).toBe(version === 1 ? 1016 : 504);
      expect(mapper.map(GRANTER, next, false)).toBeGreaterThanOrEqual(0);
      expect(mapper.frame).toBe(6);
      expect(table.grow()).toBe(2);
    }
  });

  it('status frames are of version 2: one for 2048 entries, GNTST_general_error for more', () => {
    const { control } = controlledTable(17, { frameCount: 16 });
    expect(control.statusFrameCount).toBe(0);
    expect(control.getStatusFrames(1)).toBe(GNTST_general_error);
    control.setVersion(2);
    expect(control.statusFrameCount).toBe(2);
    expect(control.setupTable(17)).toBe(GNTST_okay);
    expect(control.statusFrameCount).toBe(3);
    expect([3, 4].map((count) => control.getStatusFrames(count))).toEqual([GNTST_okay, GNTST_general_error]);
  });

  it('limits are told in the control words; impossible ones are refused', () => {
    expect(maptrackFramesMax(controlledTable(1, { maptrackFrameCountMax: 3 }).view)).toBe(3);
    expect(maptrackFramesMax(testView(1))).toBeUndefined();
    for (const bad of [
      { frameCount: 0 },
      { frameCount: 3 },
      { frameCountMax: 3 },
      { maptrackFrameCountMax: 0 },
      { maptrackFrameCountMax: 2 ** 31 },
      { versionMax: 3 as 2 },
    ])
      expect(() => controlledTable(2, bad)).toThrow(RangeError);
  });

  it('a table of another version than the own one cannot be grown through it', () => {
    const { view, control } = controlledTable(1);
    const { table } = testGranter(GRANTER, view);
    control.setVersion(2);
    expect(() => table.grow()).toThrow(TypeError);
  });
});
