import { type GrantHandle, type GrantRef, grantRef } from '@virtlab/abi/brands';
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTST_bad_page,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_okay,
  GTF_readonly,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GrantVersion } from './contract.ts';
import { nextState, stateOf } from './control-words.ts';
import { GrantCopyList } from './grant-copy-list.ts';
import { TEST_FRAME_COUNT, type TestMachine, createTestMachine, versionedView } from './testing.ts';
import { interfere } from './testing/interference.ts';

const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

/** The entries that are attacked: these references of either granter. */
const REFS = [8, 9, 10, 11].map((ref) => grantRef(ref));

interface Rewrite {
  readonly granter: number;
  readonly ref: number;
  /** Word of the entry; the status where it is beyond. */
  readonly word: number;
  readonly value: number;
}

const word0 = fc
  .record({ flags: fc.nat({ max: 0x1ff }), domain: fc.constantFrom(0, 3, 4, 0x7fef, 0xffff) })
  .map(({ flags, domain }) => flags | (domain << 16));
const rewrite: fc.Arbitrary<Rewrite> = fc.record({
  granter: fc.nat({ max: 1 }),
  ref: fc.nat({ max: REFS.length - 1 }),
  word: fc.oneof(fc.constant(0), fc.nat({ max: 4 })),
  value: fc.oneof(
    word0,
    fc.nat({ max: 70 }),
    fc.constantFrom(4 | (9 << 16), 0x7fff_ffff, -1, 0xffff_0000 | 0),
  ),
});

/** What a granter can do to an entry of its own, statuses included: it can write them too. */
function apply({ granters }: TestMachine, { granter, ref, word, value }: Rewrite): void {
  const { view, table } = granters[granter]!;
  const isV2 = table.version === 2;
  const first = isV2 ? view.control!.entriesV2 / 4 : view.tableOffset / 4;
  if (isV2 && word > 3) view.table.u16[view.control!.status / 2 + REFS[ref]!] = value & 0xffff;
  else view.table.i32[first + REFS[ref]! * (isV2 ? 4 : 2) + (isV2 ? word : word % 2)] = value;
}

const op = fc.oneof(
  fc.record({
    op: fc.constant('map' as const),
    granter: fc.nat({ max: 1 }),
    ref: fc.constantFrom(...REFS),
    writable: fc.boolean(),
  }),
  fc.record({ op: fc.constant('unmap' as const), pick: fc.nat({ max: 9 }) }),
  fc.record({
    op: fc.constant('copy' as const),
    granter: fc.nat({ max: 1 }),
    ref: fc.constantFrom(...REFS),
    isOut: fc.boolean(),
    offset: fc.nat({ max: 5000 }),
    size: fc.nat({ max: 5000 }),
  }),
);
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;

/** Frames of the granters' RAM are told apart from the mapper's by what they hold. */
const THEIRS = 0x11;
const OURS = 0x99;

function attackedMachine(versions: readonly GrantVersion[]): TestMachine {
  const machine = createTestMachine(
    1,
    versions.map((version) => versionedView(version, 1)),
  );
  const { granters, mappers } = machine;
  for (const { table, view } of granters) {
    for (const [index] of REFS.entries()) table.grantAccess(mappers[0]!.domain, index + 1, index % 2 === 1);
    view.ram.u8.fill(THEIRS);
  }
  mappers[0]!.ram.u8.fill(OURS);
  return machine;
}

/** Runs one operation; what of its answer the contract does not know, whatever the granters do. */
function run(machine: TestMachine, each: Op, list: GrantCopyList): string | undefined {
  const { granters, mappers } = machine;
  const { mapper } = mappers[0]!;
  if (each.op === 'unmap') {
    const handles = mapper.live();
    if (handles.length === 0) return undefined;
    const status = mapper.unmap(handles[each.pick % handles.length]!.handle);
    return status === GNTST_okay ? undefined : `unmap answered ${status}`;
  }
  const { domain } = granters[each.granter]!;
  if (each.op === 'map') {
    const result = mapper.map(domain, each.ref, each.writable);
    const isKnown =
      result >= 0
        ? mapper.frame < TEST_FRAME_COUNT
        : [GNTST_general_error, GNTST_bad_page, GNTST_eagain].includes(result);
    return isKnown ? undefined : `map answered ${result} and frame ${mapper.frame}`;
  }
  list.clear();
  if (each.isOut) list.push(GNTCOPY_dest_gref, DOMID_SELF, 5, 0, domain, each.ref, each.offset, each.size);
  else list.push(GNTCOPY_source_gref, domain, each.ref, each.offset, DOMID_SELF, 5, 0, each.size);
  mapper.copy(list);
  return list.status[0]! <= GNTST_okay ? undefined : `copy answered ${list.status[0]}`;
}

describe.each([[[1, 1]], [[1, 2]], [[2, 2]]] as const)(
  `granters of versions %j that rewrite entries at any step (seed ${SEED})`,
  (versions) => {
    it('cannot make an operation throw, reach other memory, or lose a pin', () => {
      const steps = fc.array(fc.tuple(op, fc.array(fc.option(rewrite), { maxLength: 12, size: 'max' })), {
        maxLength: 30,
        size: 'max',
      });
      const list = new GrantCopyList(1);
      fc.assert(
        fc.property(steps, (sequence) => {
          const machine = attackedMachine(versions);
          const { mapper, ram } = machine.mappers[0]!;
          let surprise: string | undefined;
          for (const [each, rewrites] of sequence) {
            const act = (_name: string, count: number): void => {
              const next = rewrites[count];
              if (next) apply(machine, next);
            };
            interfere(act, () => void (surprise ??= run(machine, each, list)));
          }
          expect(surprise).toBeUndefined();
          // Only the one own page that copies went through has changed.
          expect(ram.u8.findIndex((byte, at) => byte !== OURS && Math.floor(at / XEN_PAGE_SIZE) !== 5)).toBe(
            -1,
          );
          for (const { handle } of mapper.live()) expect(mapper.unmap(handle)).toBe(GNTST_okay);
          // Whatever the mapper held is counted out: entries that are set right again can be used and ended.
          for (const { table, domain, view } of machine.granters) {
            view.table.u8.fill(0, view.tableOffset, view.tableOffset + XEN_PAGE_SIZE);
            const { entriesV2, status } = view.control!;
            view.table.u8.fill(0, entriesV2, status + XEN_PAGE_SIZE);
            for (const { ref } of table.live()) expect(table.endAccess(ref)).toBe(true);
            const ref = table.grantAccess(machine.mappers[0]!.domain, 9, false) as GrantRef;
            const handle = mapper.map(domain, ref, true) as GrantHandle;
            expect(mapper.frame).toBe(9);
            expect(mapper.unmap(handle)).toBe(GNTST_okay);
            expect(table.endAccess(ref)).toBe(true);
          }
        }),
        { numRuns: 30 * CAMPAIGN, seed: SEED },
      );
    });
  },
);

describe.each([1, 2] as const)('a version %s entry that changes at one step of an operation', (version) => {
  const setup = () => {
    const machine = createTestMachine(1, [versionedView(version, 1)]);
    const { granter, mappers } = machine;
    const ref = granter.table.grantAccess(mappers[0]!.domain, 1, false) as GrantRef;
    const { control, tableOffset, table: region } = granter.view;
    const at = version === 2 ? control!.entriesV2 / 4 + ref * 4 : tableOffset / 4 + ref * 2;
    return { ...machine, ref, words: region.i32, at };
  };

  it('becomes read-only before any step of a map for writing: mapped before, or refused, and never both', () => {
    const steps = interfere(
      () => {},
      () => {
        const { mappers, granter, ref } = setup();
        mappers[0]!.mapper.map(granter.domain, ref, true);
      },
    );
    for (let step = 0; step < steps; step++) {
      const { mappers, granter, ref, words, at } = setup();
      let result = 0;
      interfere(
        (_name, count) => void (count === step && (words[at]! |= GTF_readonly)),
        () => void (result = mappers[0]!.mapper.map(granter.domain, ref, true)),
      );
      expect(result === GNTST_general_error || result >= 0).toBe(true);
      expect(granter.table.isInUse(ref)).toBe(result >= 0);
      if (result >= 0) mappers[0]!.mapper.unmap(result as GrantHandle);
      expect(granter.table.endAccess(ref)).toBe(true);
    }
  });

  it('is ended before any step of a map, or mapped before any step of its end: one of the two gives way', () => {
    for (let step = 0; step < 8; step++) {
      const { mappers, granter, ref } = setup();
      let [hasEnded, result] = [false, 0];
      interfere(
        (_name, count) => void (count === step && (hasEnded = granter.table.endAccess(ref))),
        () => void (result = mappers[0]!.mapper.map(granter.domain, ref, false)),
      );
      expect(hasEnded && result >= 0, `ended before step ${step}`).toBe(false);
      if (result >= 0) mappers[0]!.mapper.unmap(result as GrantHandle);
      expect(hasEnded || granter.table.endAccess(ref)).toBe(true);
    }
    for (let step = 0; step < 8; step++) {
      const { mappers, granter, ref } = setup();
      let [hasEnded, result] = [false, 0];
      interfere(
        (_name, count) =>
          void (count === step && (result = mappers[0]!.mapper.map(granter.domain, ref, false))),
        () => void (hasEnded = granter.table.endAccess(ref)),
      );
      const isMapped = mappers[0]!.mapper.live().length === 1;
      expect(hasEnded && isMapped, `mapped before step ${step}`).toBe(false);
      expect(isMapped ? mappers[0]!.mapper.unmap(result as GrantHandle) : GNTST_okay).toBe(GNTST_okay);
      expect(hasEnded || granter.table.endAccess(ref)).toBe(true);
    }
  });

  it('stands in a table whose version begins to change: GNTST_eagain, and nothing stays in use', () => {
    for (let step = 0; step < 6; step++) {
      const { mappers, granter, ref } = setup();
      const { mapper } = mappers[0]!;
      mapper.unmap(mapper.map(granter.domain, ref, true) as GrantHandle);
      const { table, control } = granter.view;
      const before = stateOf(granter.view);
      let [hasBegun, result] = [false, 0];
      interfere(
        (_name, count) => {
          if (count !== step) return;
          hasBegun = true;
          table.i32[control!.words / 4] = nextState(before, 0);
        },
        () => void (result = mapper.map(granter.domain, ref, true)),
      );
      const expected = hasBegun ? GNTST_eagain : GNTST_okay;
      expect(result < 0 ? result : mapper.unmap(result as GrantHandle), `step ${step}`).toBe(expected);
      expect(granter.table.isInUse(ref)).toBe(false);
      table.i32[control!.words / 4] = before;
      const handle = mapper.map(granter.domain, ref, true);
      expect(mapper.unmap(handle as GrantHandle)).toBe(GNTST_okay);
      expect(granter.table.endAccess(ref)).toBe(true);
    }
  });
});
