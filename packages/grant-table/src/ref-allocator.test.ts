import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RefAllocator } from './ref-allocator.ts';

const BEGIN = 5;

/** Free references as plain booleans. */
class Model {
  readonly free: boolean[];

  constructor(end: number) {
    this.free = Array.from({ length: end }, (_, ref) => ref >= BEGIN);
  }

  get freeCount(): number {
    return this.free.filter(Boolean).length;
  }

  hasRun(count: number): boolean {
    let run = 0;
    return this.free.some((free) => {
      run = free ? run + 1 : 0;
      return run >= count;
    });
  }
}

type Op = { readonly take: number } | { readonly release: number };

function release(refs: RefAllocator, model: Model, taken: number[], pick: number): boolean {
  const [ref] = taken.splice(pick % Math.max(taken.length, 1), 1);
  if (ref === undefined) return true;
  refs.release(ref);
  model.free[ref] = true;
  return true;
}

/** False if a reference was taken that was not free, or none although the model has a run. */
function take(refs: RefAllocator, model: Model, taken: number[], count: number): boolean {
  const hasRun = model.hasRun(count);
  const first = count === 1 ? refs.take() : refs.takeRange(count);
  if (first < 0) return !hasRun;
  const run = Array.from({ length: count }, (_, index) => first + index);
  const wasFree = run.every((ref) => model.free[ref] === true);
  for (const ref of run) model.free[ref] = false;
  taken.push(...run);
  return wasFree && hasRun;
}

describe('RefAllocator', () => {
  it('agrees with a list of booleans: what it takes was free and in one piece, and it refuses only when it must', () => {
    const op: fc.Arbitrary<Op> = fc.oneof(
      { arbitrary: fc.record({ take: fc.constant(1) }), weight: 2 },
      { arbitrary: fc.record({ take: fc.integer({ min: 1, max: 80 }) }), weight: 2 },
      { arbitrary: fc.record({ release: fc.nat() }), weight: 5 },
    );
    fc.assert(
      fc.property(fc.integer({ min: BEGIN, max: 200 }), fc.array(op, { maxLength: 300 }), (end, ops) => {
        const refs = new RefAllocator(BEGIN, end);
        const model = new Model(end);
        const taken: number[] = [];
        for (const each of ops) {
          expect(
            'release' in each
              ? release(refs, model, taken, each.release)
              : take(refs, model, taken, each.take),
          ).toBe(true);
          expect(refs.freeCount).toBe(model.freeCount);
        }
        for (let ref = 0; ref < end; ref++) expect(refs.isFree(ref)).toBe(model.free[ref]);
      }),
      { numRuns: 300 },
    );
  });

  it('does not give a reference out again at once', () => {
    const refs = new RefAllocator(0, 4096);
    const first = refs.takeRange(64);
    for (let ref = first; ref < first + 64; ref++) refs.release(ref);
    expect(refs.takeRange(64)).not.toBe(first);
  });

  it('finds a run that crosses the place where the last search ended', () => {
    const refs = new RefAllocator(0, 128);
    while (refs.freeCount > 0) refs.take();
    refs.release(70);
    expect(refs.take()).toBe(70);
    for (let ref = 50; ref < 90; ref++) refs.release(ref);
    expect(refs.takeRange(41)).toBe(-1);
    expect(refs.takeRange(40)).toBe(50);
  });

  it('an allocator of nothing gives nothing', () => {
    const refs = new RefAllocator(64, 64);
    expect([refs.take(), refs.takeRange(1), refs.takeRange(2), refs.freeCount]).toEqual([-1, -1, -1, 0]);
  });
});
