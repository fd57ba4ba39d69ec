import { type GrantHandle, type GrantRef, domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTST_eagain,
  GNTST_okay,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GrantTableView } from './contract.ts';
import { GrantCopyList } from './grant-copy-list.ts';
import { TEST_FRAME_COUNT, type TestMachine, createTestMachine, testView, versionedView } from './testing.ts';
import { GrantModel, type ModelGrant } from './testing/grant-model.ts';

const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
/** The own page of a mapper that copies go through. */
const OWN_FRAME = 2;

const index = fc.nat({ max: 1 });
const target = fc.nat({ max: 2 });
/** Mostly of the oldest, so that operations meet on the same entries. */
const pick = fc.oneof({ arbitrary: fc.nat({ max: 2 }), weight: 3 }, fc.nat());
const op = fc.oneof(
  fc.record({
    op: fc.constant('grant' as const),
    granter: index,
    /** A mapper, or the other granter. */
    to: target,
    frame: fc.nat({ max: TEST_FRAME_COUNT - 9 }),
    readonly: fc.boolean(),
    count: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 9 })),
  }),
  fc.record({
    op: fc.constant('part' as const),
    granter: index,
    to: target,
    frame: fc.nat({ max: TEST_FRAME_COUNT - 1 }),
    start: fc.nat({ max: 4000 }),
    readonly: fc.boolean(),
  }),
  fc.record({ op: fc.constant('pass' as const), granter: index, to: index, pick, readonly: fc.boolean() }),
  fc.record({
    op: fc.constant('end' as const),
    granter: index,
    pick,
    count: fc.integer({ min: 1, max: 4 }),
    mode: fc.constantFrom('end', 'defer', 'range'),
  }),
  {
    arbitrary: fc.record({
      op: fc.constant('map' as const),
      granter: index,
      mapper: index,
      pick,
      writable: fc.boolean(),
    }),
    weight: 2,
  },
  fc.record({ op: fc.constant('unmap' as const), pick }),
  fc.record({ op: fc.constant('reclaim' as const), granter: index }),
  fc.record({ op: fc.constant('swap' as const), granter: index, pick, other: pick }),
  {
    arbitrary: fc.record({
      op: fc.constant('copy' as const),
      granter: index,
      mapper: index,
      pick,
      isOut: fc.boolean(),
      offset: fc.nat({ max: 4100 }),
      size: fc.oneof(fc.nat({ max: 200 }), fc.nat({ max: 4200 })),
    }),
    weight: 3,
  },
);
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
type OpOf<Name> = Extract<Op, { readonly op: Name }>;

/** What an operation answered, and what the model says it must have. */
type Outcome = readonly [actual: unknown, expected: unknown];
const NOTHING: Outcome = [undefined, undefined];

function pickFrom<T>(items: Iterable<T>, at: number): T | undefined {
  const all = [...items];
  return all[at % Math.max(all.length, 1)];
}

class Run {
  readonly machine: TestMachine;
  readonly model: GrantModel;
  readonly #list = new GrantCopyList(1);

  constructor(views: readonly GrantTableView[]) {
    this.machine = createTestMachine(1, views);
    const { granters, mappers } = this.machine;
    this.model = new GrantModel(
      granters.map(({ table }) => table.version),
      granters.map(({ domain }) => domain),
      mappers.map(({ domain }) => domain),
      granters.map(({ table }) => table.capacity + 8),
    );
  }

  apply(each: Op): Outcome {
    const { table } = this.machine.granters['granter' in each ? each.granter : 0]!;
    switch (each.op) {
      case 'grant':
        return this.#grant(each);
      case 'part': {
        if (table.version === 1) return NOTHING;
        const [to, size] = [this.#target(each.granter, each.to), 96];
        const ref = table.grantSubPage(domId(to), each.frame, each.start, size, each.readonly);
        return this.#note(each.granter, ref, { ...each, kind: 'sub-page', to, size });
      }
      case 'pass': {
        if (table.version === 1) return NOTHING;
        const from = 1 - each.granter;
        const frame = pickFrom([...this.model.grants[from]!.keys(), 9], each.pick)!;
        const to = this.#target(each.granter, each.to);
        const owner = this.machine.granters[from]!.domain;
        const ref = table.grantTransitive(domId(to), owner, grantRef(frame), each.readonly);
        return this.#note(each.granter, ref, { ...each, kind: 'transitive', to, frame, start: 0, size: 0 });
      }
      case 'end':
        return this.#end(each);
      case 'map':
        return this.#map(each);
      case 'unmap':
        return this.#unmap(each);
      case 'reclaim':
        return [table.reclaimDeferred(), this.model.reclaim(each.granter)];
      case 'swap': {
        const refs = [...this.model.grants[each.granter]!.keys(), 9, 40];
        const [a, b] = [pickFrom(refs, each.pick)!, pickFrom(refs, each.other)!];
        const status = table.swap(grantRef(a), grantRef(b));
        return [status, this.model.swap(each.granter, a, b) ? GNTST_okay : GNTST_eagain];
      }
      case 'copy':
        return this.#copy(each);
    }
  }

  #target(granter: number, to: number): number {
    return (to < 2 ? this.machine.mappers[to]! : this.machine.granters[1 - granter]!).domain;
  }

  #note(
    granter: number,
    ref: number,
    { kind, to, frame, start, size, readonly }: Omit<ModelGrant, 'deferred'>,
  ): Outcome {
    const grants = this.model.grants[granter]!;
    const wasFree = !grants.has(ref);
    grants.set(ref, { kind, to, frame, start, size, readonly, deferred: false });
    return [
      { isGranted: ref > 0, wasFree },
      { isGranted: true, wasFree: true },
    ];
  }

  #grant({ granter, to, frame, readonly, count }: OpOf<'grant'>): Outcome {
    const { table } = this.machine.granters[granter]!;
    const domain = this.#target(granter, to);
    const first =
      count === 1
        ? table.grantAccess(domId(domain), frame, readonly)
        : table.grantRange(domId(domain), frame, count, readonly);
    const notes = Array.from({ length: count }, (_, offset) =>
      this.#note(granter, first + offset, {
        kind: 'page',
        to: domain,
        frame: frame + offset,
        start: 0,
        size: XEN_PAGE_SIZE,
        readonly,
      }),
    );
    return [notes.map(([actual]) => actual), notes.map(([, expected]) => expected)];
  }

  #end({ granter, pick: at, count, mode }: OpOf<'end'>): Outcome {
    const { table } = this.machine.granters[granter]!;
    const grants = this.model.grants[granter]!;
    const first = pickFrom(grants.keys(), at);
    if (first === undefined) return NOTHING;
    const refs = Array.from({ length: mode === 'range' ? count : 1 }, (_, offset) => first + offset);
    if (refs.some((ref) => grants.get(ref)?.deferred !== false))
      return [thrownBy(() => table.endRange(grantRef(first), refs.length)), 'RangeError'];
    if (mode === 'end') return [table.endAccess(grantRef(first)), this.model.end(granter, first)];
    const remaining = refs.filter((ref) => !this.model.end(granter, ref));
    for (const ref of remaining) grants.get(ref)!.deferred = true;
    const hasEnded =
      mode === 'defer' ? table.endOrDefer(grantRef(first)) : table.endRange(grantRef(first), refs.length);
    return [hasEnded, remaining.length === 0];
  }

  #map({ granter, mapper, pick: at, writable }: OpOf<'map'>): Outcome {
    const ref = pickFrom([...this.model.grants[granter]!.keys(), 9, 100, 5000], at)!;
    const { mapper: real } = this.machine.mappers[mapper]!;
    const expected = this.model.mayMap(mapper, granter, ref, writable);
    const result = real.map(this.machine.granters[granter]!.domain, grantRef(ref), writable);
    if (expected !== GNTST_okay) return [result, expected];
    const key = `${mapper} ${result}`;
    const isNew = result >= 0 && !this.model.mappings.has(key);
    this.model.mappings.set(key, { mapper, granter, ref, writable });
    const { frame } = this.model.grants[granter]!.get(ref)!;
    return [
      { isNew, frame: real.frame },
      { isNew: true, frame },
    ];
  }

  #unmap({ pick: at }: OpOf<'unmap'>): Outcome {
    const found = pickFrom(this.model.mappings, at);
    if (found === undefined) return NOTHING;
    const [key, { mapper }] = found;
    this.model.mappings.delete(key);
    const handle = Number(key.split(' ')[1]) as GrantHandle;
    return [this.machine.mappers[mapper]!.mapper.unmap(handle), GNTST_okay];
  }

  /** The bytes on both sides are looked at too: they are equal after a copy, and untouched after one that failed. */
  #copy({ granter, mapper, pick: at, isOut, offset, size }: OpOf<'copy'>): Outcome {
    const { granters, mappers } = this.machine;
    const { mapper: real, ram } = mappers[mapper]!;
    const { domain } = granters[granter]!;
    const ref = pickFrom([...this.model.grants[granter]!.keys(), 9, 5000], at)!;
    const list = this.#list;
    list.clear();
    if (isOut) list.push(GNTCOPY_dest_gref, DOMID_SELF, OWN_FRAME, 0, domain, ref, offset, size);
    else list.push(GNTCOPY_source_gref, domain, ref, offset, DOMID_SELF, OWN_FRAME, 0, size);
    const own = ram.u8.subarray(OWN_FRAME * XEN_PAGE_SIZE, (OWN_FRAME + 1) * XEN_PAGE_SIZE);
    own.fill(isOut ? at & 0xff : 0);
    const { status, claim } = this.model.copy(mapper, granter, ref, isOut, offset, size);
    const theirs = granters.map(({ view }) => view.ram.u8.slice());
    real.copy(list);
    if (claim !== undefined) {
      const from = claim.frame * XEN_PAGE_SIZE + offset;
      const page = theirs[claim.granter]!;
      if (isOut) page.set(own.subarray(0, size), from);
      else expect(own.subarray(0, size)).toEqual(page.subarray(from, from + size));
    }
    const isAsExpected = granters.every(({ view }, each) => equal(view.ram.u8, theirs[each]!));
    return [
      { status: list.status[0], isAsExpected },
      { status, isAsExpected: true },
    ];
  }

  compare(): void {
    for (const [granter, { table }] of this.machine.granters.entries()) {
      const grants = this.model.grants[granter]!;
      const live = table.live();
      expect(new Set(live.map(({ ref }) => ref as number))).toEqual(new Set(grants.keys()));
      expect(table.freeCount).toBe(table.capacity - live.length);
      for (const { ref, domain, deferred } of live) {
        const grant = grants.get(ref)!;
        expect({ domain, deferred }).toEqual({ domain: grant.to, deferred: grant.deferred });
        this.#compareFlags(granter, ref);
      }
    }
    const mapped = this.machine.mappers.flatMap(({ mapper: real }, mapper) =>
      real.live().map(({ handle, domain, ref, writable }) => {
        const granter = this.machine.granters.findIndex((each) => each.domain === domain);
        return [`${mapper} ${handle}`, { mapper, granter, ref, writable }] as const;
      }),
    );
    expect(new Map(mapped)).toEqual(this.model.mappings);
  }

  #compareFlags(granter: number, ref: GrantRef): void {
    const { view, table } = this.machine.granters[granter]!;
    const { reading, writing } = this.model.inUse(granter, ref);
    expect(table.isInUse(ref)).toBe(reading);
    if (table.version === 2) return;
    const { readonly } = this.model.grants[granter]!.get(ref)!;
    expect(view.table.u16[view.tableOffset / 2 + ref * 4]).toBe(
      GTF_permit_access |
        (readonly ? GTF_readonly : 0) |
        (reading ? GTF_reading : 0) |
        (writing ? GTF_writing : 0),
    );
  }

  /** Everything can be given back. */
  finish(): void {
    for (const { mapper } of this.machine.mappers) {
      for (const { handle } of mapper.live()) mapper.unmap(handle);
    }
    for (const { table } of this.machine.granters) {
      expect(table.reclaimDeferred()).toBe(0);
      for (const { ref } of table.live()) expect(table.endAccess(ref)).toBe(true);
      expect(table.freeCount).toBe(table.capacity);
    }
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function thrownBy(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    return (error as Error).name;
  }
  return 'nothing';
}

describe.each([
  ['fixed version 1, version 1', () => [testView(1), versionedView(1, 1)]],
  ['version 1, version 2', () => [versionedView(1, 1), versionedView(2, 1)]],
  ['version 2, version 2', () => [versionedView(2, 1), versionedView(2, 1)]],
] as const)(`two granters (%s) and two mappers (seed ${SEED})`, (_name, views) => {
  it('any sequence of operations answers and leaves what a plain model of the protocol says', () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 120, size: 'max' }), (ops) => {
        const run = new Run(views());
        for (const each of ops) {
          const [actual, expected] = run.apply(each);
          expect(actual).toEqual(expected);
        }
        run.compare();
        run.finish();
      }),
      { numRuns: 60 * CAMPAIGN, seed: SEED },
    );
  });
});
