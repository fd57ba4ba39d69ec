import { type GrantHandle, grantRef } from '@virtlab/abi/brands';
import {
  GNTST_general_error,
  GNTST_okay,
  GRANT_ENTRY_V1,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { type TestMachine, TEST_FRAME_COUNT, createTestMachine } from './testing.ts';

interface ModelGrant {
  readonly mapper: number;
  readonly frame: number;
  readonly readonly: boolean;
  deferred: boolean;
}

interface ModelMapping {
  readonly mapper: number;
  readonly ref: number;
  readonly writable: boolean;
}

/** The protocol as two maps; every operation answers what the real tables must answer. */
class Model {
  readonly grants = new Map<number, ModelGrant>();
  /** By mapper and handle. */
  readonly mappings = new Map<string, ModelMapping>();

  inUse(ref: number): { readonly reading: boolean; readonly writing: boolean } {
    const of = [...this.mappings.values()].filter((mapping) => mapping.ref === ref);
    return { reading: of.length > 0, writing: of.some(({ writable }) => writable) };
  }

  mayMap(mapper: number, ref: number, writable: boolean): boolean {
    const grant = this.grants.get(ref);
    return grant?.mapper === mapper && !(writable && grant.readonly);
  }

  end(ref: number): boolean {
    if (this.inUse(ref).reading) return false;
    return this.grants.delete(ref);
  }

  /** Deferred references that are still in use, after those that are not were reclaimed. */
  reclaim(): number {
    for (const [ref, { deferred }] of this.grants) if (deferred) this.end(ref);
    return [...this.grants.values()].filter(({ deferred }) => deferred).length;
  }
}

type Op =
  | {
      readonly op: 'grant';
      readonly mapper: number;
      readonly frame: number;
      readonly readonly: boolean;
      readonly count: number;
    }
  | { readonly op: 'end'; readonly pick: number; readonly count: number }
  | { readonly op: 'map'; readonly mapper: number; readonly pick: number; readonly writable: boolean }
  | { readonly op: 'unmap'; readonly pick: number }
  | { readonly op: 'reclaim' };

const mapper = fc.nat({ max: 1 });
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({
    op: fc.constant('grant' as const),
    mapper,
    frame: fc.nat({ max: TEST_FRAME_COUNT - 9 }),
    readonly: fc.boolean(),
    count: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 9 })),
  }),
  fc.record({ op: fc.constant('end' as const), pick: fc.nat(), count: fc.integer({ min: 1, max: 4 }) }),
  {
    arbitrary: fc.record({ op: fc.constant('map' as const), mapper, pick: fc.nat(), writable: fc.boolean() }),
    weight: 2,
  },
  fc.record({ op: fc.constant('unmap' as const), pick: fc.nat() }),
  fc.constant({ op: 'reclaim' as const }),
);

function pickFrom<T>(items: Iterable<T>, pick: number): T | undefined {
  const all = [...items];
  return all[pick % Math.max(all.length, 1)];
}

/** What an operation answered, and what the model says it must have. */
type Outcome = readonly [actual: unknown, expected: unknown];
type OpOf<Name> = Extract<Op, { readonly op: Name }>;
const NOTHING: Outcome = [undefined, undefined];

function applyGrant({ granter, mappers }: TestMachine, model: Model, each: OpOf<'grant'>): Outcome {
  const { mapper: owner, frame, readonly, count } = each;
  const target = mappers[owner]!.domain;
  const first =
    count === 1
      ? granter.table.grantAccess(target, frame, readonly)
      : granter.table.grantRange(target, frame, count, readonly);
  const refs = Array.from({ length: count }, (_, index) => first + index);
  const wereFree = refs.every((ref) => !model.grants.has(ref));
  for (const [index, ref] of refs.entries()) {
    model.grants.set(ref, { mapper: owner, frame: frame + index, readonly, deferred: false });
  }
  return [
    { isGranted: first > 0, wereFree },
    { isGranted: true, wereFree: true },
  ];
}

function applyEnd({ granter }: TestMachine, model: Model, each: OpOf<'end'>): Outcome {
  const { table } = granter;
  const first = pickFrom(model.grants.keys(), each.pick);
  if (first === undefined) return NOTHING;
  const refs = Array.from({ length: each.count }, (_, index) => first + index);
  if (refs.some((ref) => model.grants.get(ref)?.deferred !== false)) {
    return [thrownBy(() => table.endRange(grantRef(first), each.count)), 'RangeError'];
  }
  if (each.count === 1) return [table.endAccess(grantRef(first)), model.end(first)];
  const remaining = refs.filter((ref) => !model.end(ref));
  for (const ref of remaining) model.grants.get(ref)!.deferred = true;
  return [table.endRange(grantRef(first), each.count), remaining.length === 0];
}

function applyMap({ granter, mappers }: TestMachine, model: Model, each: OpOf<'map'>): Outcome {
  const ref = pickFrom([...model.grants.keys(), 9, 1000], each.pick)!;
  const { mapper: real } = mappers[each.mapper]!;
  const result = real.map(granter.domain, grantRef(ref), each.writable);
  if (!model.mayMap(each.mapper, ref, each.writable)) return [result, GNTST_general_error];
  const key = `${each.mapper} ${result}`;
  const isNew = result >= 0 && !model.mappings.has(key);
  model.mappings.set(key, { mapper: each.mapper, ref, writable: each.writable });
  return [
    { isNew, frame: real.frame },
    { isNew: true, frame: model.grants.get(ref)!.frame },
  ];
}

function applyUnmap({ mappers }: TestMachine, model: Model, each: OpOf<'unmap'>): Outcome {
  const found = pickFrom(model.mappings, each.pick);
  if (found === undefined) return NOTHING;
  const [key, { mapper: owner }] = found;
  model.mappings.delete(key);
  return [mappers[owner]!.mapper.unmap(Number(key.split(' ')[1]) as GrantHandle), GNTST_okay];
}

function apply(machine: TestMachine, model: Model, each: Op): Outcome {
  switch (each.op) {
    case 'grant':
      return applyGrant(machine, model, each);
    case 'end':
      return applyEnd(machine, model, each);
    case 'map':
      return applyMap(machine, model, each);
    case 'unmap':
      return applyUnmap(machine, model, each);
    case 'reclaim':
      return [machine.granter.table.reclaimDeferred(), model.reclaim()];
  }
}

function thrownBy(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    return (error as Error).name;
  }
  return 'nothing';
}

function compare({ granter, mappers }: TestMachine, model: Model): void {
  const live = granter.table.live();
  expect(new Set(live.map(({ ref }) => ref as number))).toEqual(new Set(model.grants.keys()));
  expect(granter.table.freeCount).toBe(granter.table.capacity - live.length);
  for (const { ref, domain, frame, deferred } of live) {
    const grant = model.grants.get(ref)!;
    expect({ domain, frame, deferred }).toEqual({
      domain: mappers[grant.mapper]!.domain,
      frame: grant.frame,
      deferred: grant.deferred,
    });
    const { reading, writing } = model.inUse(ref);
    const flags = granter.view.table.u16[granter.view.tableOffset / 2 + (ref * GRANT_ENTRY_V1.size) / 2]!;
    expect(flags).toBe(
      GTF_permit_access |
        (grant.readonly ? GTF_readonly : 0) |
        (reading ? GTF_reading : 0) |
        (writing ? GTF_writing : 0),
    );
  }
  const mapped = mappers.flatMap(({ mapper: real }, index) =>
    real
      .live()
      .map(({ handle, ref, writable }) => [`${index} ${handle}`, { mapper: index, ref, writable }] as const),
  );
  expect(new Map(mapped)).toEqual(model.mappings);
}

it('any sequence of grants, ends, maps and unmaps answers and leaves what a plain model of the protocol says', () => {
  fc.assert(
    fc.property(fc.array(op, { maxLength: 120 }), (ops) => {
      const machine = createTestMachine();
      const model = new Model();
      for (const each of ops) {
        const [actual, expected] = apply(machine, model, each);
        expect(actual).toEqual(expected);
      }
      compare(machine, model);
      for (const { mapper: real } of machine.mappers)
        for (const { handle } of real.live()) real.unmap(handle);
      model.mappings.clear();
      expect(machine.granter.table.reclaimDeferred()).toBe(0);
      for (const { ref } of machine.granter.table.live()) {
        expect(machine.granter.table.endAccess(ref)).toBe(true);
      }
      expect(machine.granter.table.freeCount).toBe(machine.granter.table.capacity);
    }),
    { numRuns: 200 },
  );
});
