import { type Action, isAccess } from './action.ts';
import type { Exploration, MemoryModel } from './exploration.ts';
import { Shared } from './shared.ts';
import { SharedMemory, putWord, wordAt } from './shared-memory.ts';
import { type Threads, ThreadSteps } from './thread.ts';

function plant(
  memory: SharedMemory,
  { plainStores = [], lostStores = [] }: NonNullable<Exploration['planted']>,
): (action: Action) => Action {
  for (const name of [...plainStores, ...lostStores])
    if (memory.offsetOf(name) === undefined) throw new TypeError(`There is no word ${name}`);
  return (action) => {
    if (!isAccess(action) || action.kind !== 'atomicStore') return action;
    const name = memory.nameOf(action.offset) ?? '';
    if (plainStores.includes(name)) return { ...action, kind: 'store' };
    return lostStores.includes(name) ? { ...action, kind: 'load' } : action;
  };
}

/** An exploration made ready: its memory as it is at the beginning, and its threads as automata. */
export class World {
  readonly memory: SharedMemory;
  readonly memoryModel: MemoryModel;
  readonly threads: readonly ThreadSteps[];
  readonly mortal: readonly boolean[];
  /** Words that any access has touched get a number, in the order of their discovery. */
  readonly #cells: Int32Array;
  readonly #wordOfCell: number[] = [];
  readonly #first: number[] = [];
  readonly #before: Uint8Array;
  readonly #afterMaking: Uint8Array;

  constructor(exploration: Exploration, memoryModel: MemoryModel) {
    const { words = {}, setup, threads, mortal = [] } = exploration;
    const names = Object.keys(words);
    const memory = exploration.memory ?? new SharedMemory(4 * names.length + 4);
    this.memory = memory;
    this.#cells = new Int32Array(memory.bytes.length / 4).fill(-1);
    this.memoryModel = memoryModel;
    memory.bytes.fill(0);
    for (const [index, name] of names.entries()) {
      if (exploration.memory === undefined) memory.name(4 * index, name);
      const offset = memory.offsetOf(name);
      if (offset === undefined) throw new TypeError(`The memory has no word ${name}`);
      putWord(memory.bytes, offset >>> 2, words[name]!);
    }
    setup?.();
    this.#before = memory.bytes.slice();
    const shared = new Shared(memory);
    const make = (): Threads => {
      if (typeof threads !== 'function') return threads;
      memory.bytes.set(this.#before);
      return threads();
    };
    const made = Object.keys(make());
    const alter = plant(memory, exploration.planted ?? {});
    this.#afterMaking = memory.bytes.slice();
    this.threads = made.map((name) => new ThreadSteps(name, shared, () => make()[name]!, alter));
    for (const name of mortal) this.threadIndex(name);
    this.mortal = made.map((name) => mortal.includes(name));
  }

  threadIndex(name: string): number {
    const index = this.threads.findIndex((thread) => thread.name === name);
    if (index < 0) throw new TypeError(`There is no thread ${name}`);
    return index;
  }

  /** The cell of the word that holds a byte. */
  cellOf(offset: number): number {
    const word = offset >>> 2;
    const known = this.#cells[word]!;
    if (known >= 0) return known;
    const cell = this.#wordOfCell.push(word) - 1;
    this.#cells[word] = cell;
    this.#first.push(wordAt(this.#afterMaking, word));
    return cell;
  }

  /** What a cell holds at the beginning. */
  firstOf(cell: number): number {
    return this.#first[cell]!;
  }

  /** Puts the memory into a state, for `check`. */
  materialize(cells: readonly number[]): void {
    this.memory.bytes.set(this.#afterMaking);
    for (const [cell, value] of cells.entries()) putWord(this.memory.bytes, this.#wordOfCell[cell]!, value);
  }

  nameOf(offset: number): string {
    return this.memory.nameOf(offset) ?? `[${offset}]`;
  }
}
