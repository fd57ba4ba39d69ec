import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { type MemoryModel, type Shared, campaignFactor, explore } from './index.ts';

/** Random small programs: what the exploration finds is what simple enumeration finds, with the reduction and without it. */
const WORDS = ['x', 'y', 'z'] as const;
type Word = (typeof WORDS)[number];

interface Operation {
  readonly kind: 'load' | 'store' | 'atomicStore' | 'exchange' | 'fence';
  readonly word: Word;
  readonly value: number;
}

const operation = fc.record<Operation>({
  kind: fc.constantFrom('load', 'store', 'atomicStore', 'exchange', 'fence'),
  word: fc.constantFrom(...WORDS),
  value: fc.integer({ min: 1, max: 3 }),
});
const programs = fc.array(fc.array(operation, { minLength: 1, maxLength: 4 }), {
  minLength: 2,
  maxLength: 3,
});

const outcome = (read: readonly (readonly number[])[], words: readonly number[]): string =>
  `${read.map((each) => each.join()).join(' ')} | ${words.join()}`;

function explored(
  threads: readonly (readonly Operation[])[],
  memoryModel: MemoryModel,
  isReduced: boolean,
): string[] {
  const ends = new Set<string>();
  const body = (operations: readonly Operation[], thread: number) => (shared: Shared) => {
    for (const [at, { kind, word, value }] of operations.entries()) {
      if (kind === 'load') shared.note(`${thread} ${at}`, shared.load(word));
      else if (kind === 'exchange') shared.note(`${thread} ${at}`, shared.exchange(word, value));
      else if (kind === 'fence') shared.fence();
      else shared[kind](word, value);
    }
  };
  explore(
    {
      words: { x: 0, y: 0, z: 0 },
      threads: Object.fromEntries(threads.map((each, thread) => [`t${thread}`, body(each, thread)])),
      isReduced,
      check: (end) => {
        const read = threads.map((operations, thread) =>
          operations.map((_, at) => end.note(`${thread} ${at}`)),
        );
        ends.add(
          outcome(
            read,
            WORDS.map((word) => end.word(word)),
          ),
        );
        return undefined;
      },
    },
    memoryModel,
  );
  return [...ends].toSorted();
}

interface Machine {
  readonly words: Readonly<Record<Word, number>>;
  readonly at: readonly number[];
  readonly read: readonly (readonly number[])[];
  readonly buffers: readonly (readonly Operation[])[];
}

/** All executions, one by one, with no memory of what was seen. */
function enumerated(threads: readonly (readonly Operation[])[], memoryModel: MemoryModel): string[] {
  const ends = new Set<string>();
  const visit = (machine: Machine): void => {
    let isEnd = true;
    for (const [thread, operations] of threads.entries()) {
      const buffer = machine.buffers[thread]!;
      if (buffer.length > 0) {
        isEnd = false;
        const { word, value } = buffer[0]!;
        const buffers = machine.buffers.with(thread, buffer.slice(1));
        visit({ ...machine, words: { ...machine.words, [word]: value }, buffers });
      }
      const next = operations[machine.at[thread]!];
      if (next === undefined) continue;
      isEnd = false;
      const after = take(machine, thread, next, memoryModel);
      if (after !== undefined) visit(after);
    }
    if (isEnd)
      ends.add(
        outcome(
          machine.read,
          WORDS.map((word) => machine.words[word]),
        ),
      );
  };
  visit({
    words: { x: 0, y: 0, z: 0 },
    at: threads.map(() => 0),
    read: threads.map((operations) => operations.map(() => 0)),
    buffers: threads.map(() => []),
  });
  return [...ends].toSorted();
}

function take(
  machine: Machine,
  thread: number,
  next: Operation,
  memoryModel: MemoryModel,
): Machine | undefined {
  const { kind, word, value } = next;
  const buffer = machine.buffers[thread]!;
  const at = machine.at.with(thread, machine.at[thread]! + 1);
  const stored = { ...machine.words, [word]: value };
  if (kind === 'store' && memoryModel === 'tso')
    return { ...machine, at, buffers: machine.buffers.with(thread, [...buffer, next]) };
  if (kind !== 'load' && buffer.length > 0) return undefined;
  if (kind === 'fence') return { ...machine, at };
  const seen = buffer.findLast((each) => each.word === word)?.value ?? machine.words[word];
  const read = machine.read.with(thread, machine.read[thread]!.with(machine.at[thread]!, seen));
  if (kind === 'load') return { ...machine, at, read };
  return kind === 'exchange' ? { ...machine, at, read, words: stored } : { ...machine, at, words: stored };
}

describe('random programs', () => {
  test.prop([programs, fc.constantFrom<MemoryModel>('sc', 'tso')], { numRuns: 200 * campaignFactor() })(
    'all outcomes are found, and no other ones, with the reduction and without',
    (threads, memoryModel) => {
      const short = threads.length > 2 ? threads.map((each) => each.slice(0, 2)) : threads;
      const all = enumerated(short, memoryModel);
      expect(explored(short, memoryModel, false)).toEqual(all);
      expect(explored(short, memoryModel, true)).toEqual(all);
    },
  );
});
