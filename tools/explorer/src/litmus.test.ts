import { describe, expect, it } from 'vitest';
import { type Exploration, type MemoryModel, type Shared, explore, rounds } from './index.ts';

/** What the two processors of a litmus test read, over all executions. */
function outcomes(
  words: Readonly<Record<string, number>>,
  threads: Readonly<Record<string, (shared: Shared) => void>>,
  notes: readonly string[],
  memoryModel: MemoryModel,
): readonly string[] {
  const [reduced, all] = [true, false].map((isReduced) => {
    const here = new Set<string>();
    const exploration: Exploration = {
      words,
      threads,
      isReduced,
      check: (end) => void here.add(notes.map((name) => end.note(name)).join(' ')),
    };
    const result = explore(exploration, memoryModel);
    expect(result.isComplete).toBe(true);
    return [...here].toSorted();
  });
  expect(reduced).toEqual(all);
  return all!;
}

describe('litmus tests', () => {
  const xy = { x: 0, y: 0 };
  const both = ['a', 'b'];

  it.each([
    ['sc', ['0 1', '1 0', '1 1']],
    ['tso', ['0 0', '0 1', '1 0', '1 1']],
  ] as const)('store buffering, plain stores, under %s', (memoryModel, expected) => {
    const threads = {
      one: (s: Shared) => (s.store('x', 1), s.note('a', s.load('y'))),
      two: (s: Shared) => (s.store('y', 1), s.note('b', s.load('x'))),
    };
    expect(outcomes(xy, threads, both, memoryModel)).toEqual(expected);
  });

  it.each(['fence', 'atomic store', 'exchange'])('store buffering is forbidden with a %s', (how) => {
    const put = (s: Shared, word: string): void => {
      if (how === 'atomic store') s.atomicStore(word, 1);
      else if (how === 'exchange') s.exchange(word, 1);
      else s.store(word, 1);
      if (how === 'fence') s.fence();
    };
    const threads = {
      one: (s: Shared) => (put(s, 'x'), s.note('a', s.load('y'))),
      two: (s: Shared) => (put(s, 'y'), s.note('b', s.load('x'))),
    };
    expect(outcomes(xy, threads, both, 'tso')).toEqual(['0 1', '1 0', '1 1']);
  });

  it.each(['sc', 'tso'] as const)(
    'message passing: stores of one thread are seen in order, %s',
    (memoryModel) => {
      const threads = {
        one: (s: Shared) => (s.store('x', 1), s.store('y', 1)),
        two: (s: Shared) => (s.note('a', s.load('y')), s.note('b', s.load('x'))),
      };
      expect(outcomes(xy, threads, both, memoryModel)).toEqual(['0 0', '0 1', '1 1']);
    },
  );

  it('a thread reads its own store before others do', () => {
    const threads = {
      one: (s: Shared) => (s.store('x', 1), s.note('a', s.load('x')), s.note('b', s.load('y'))),
      two: (s: Shared) => (s.store('y', 1), s.note('c', s.load('y')), s.note('d', s.load('x'))),
    };
    expect(outcomes(xy, threads, ['a', 'b', 'c', 'd'], 'tso')).toContain('1 0 1 0');
    expect(outcomes(xy, threads, ['a', 'b', 'c', 'd'], 'sc')).not.toContain('1 0 1 0');
  });

  it('loads are not reordered with each other, and all see stores in one order (IRIW)', () => {
    const threads = {
      one: (s: Shared) => s.store('x', 1),
      two: (s: Shared) => s.store('y', 1),
      three: (s: Shared) => (s.note('a', s.load('x')), s.note('b', s.load('y'))),
      four: (s: Shared) => (s.note('c', s.load('y')), s.note('d', s.load('x'))),
    };
    expect(outcomes(xy, threads, ['a', 'b', 'c', 'd'], 'tso')).not.toContain('1 0 1 0');
  });

  it('a locked increment loses nothing; a load and a store do', () => {
    const locked = (s: Shared): void => void s.add('x', 1);
    const plain = (s: Shared): void => s.store('x', s.load('x') + 1);
    const lost = (run: (s: Shared) => void): boolean =>
      explore({
        words: { x: 0 },
        threads: { one: run, two: run },
        check: (end) => (end.word('x') === 2 ? undefined : 'lost'),
      }).failure !== undefined;
    expect([lost(locked), lost(plain)]).toEqual([false, true]);
  });
});

describe('loops', () => {
  it('a thread in rounds has finitely many states, and waiting for another by polling ends', () => {
    const result = explore({
      words: { x: 0 },
      threads: {
        poller: rounds(0, (s, count) => (s.load('x') === 1 ? undefined : (count + 1) % 3)),
        setter: (s) => s.store('x', 1),
      },
    });
    expect(result).toMatchObject({ isComplete: true, failure: undefined, endCount: 1 });
  });

  it('a loop that nobody sees does not keep the others from moving', () => {
    const result = explore({
      words: { own: 0, x: 0 },
      threads: {
        spinner: rounds(0, (s) => (s.load('own'), 0)),
        writer: (s) => (s.store('x', 1), s.note('wrote', 1)),
        reader: (s) => {
          if (s.load('x') === 1) throw new Error('seen');
        },
      },
    });
    expect(result.failure?.message).toContain('reader: Error: seen');
  });
});
