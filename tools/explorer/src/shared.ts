import type { Access, AccessKind } from './action.ts';
import { note, perform, settled } from './running.ts';
import type { SharedMemory } from './shared-memory.ts';

/**
 * What a thread of a model shares: words of 32 bits, by name, and what a thread can do beside accessing memory. Every call
 * but `note` is one step. Threads of product code use `Atomics` and typed arrays for the words and this for the rest.
 */
export class Shared {
  readonly #memory: SharedMemory;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  /** Plain, or atomic: a load is the same on x86, from the thread's own store buffer first. */
  load(word: string): number {
    return this.#access('load', word, 0);
  }

  /** A plain store: it stays in the store buffer for a while. */
  store(word: string, value: number): void {
    this.#access('store', word, value);
  }

  atomicLoad(word: string): number {
    return this.#access('atomicLoad', word, 0);
  }

  atomicStore(word: string, value: number): void {
    this.#access('atomicStore', word, value);
  }

  exchange(word: string, value: number): number {
    return this.#access('exchange', word, value);
  }

  compareExchange(word: string, expected: number, replacement: number): number {
    return this.#access('compareExchange', word, expected, replacement);
  }

  or(word: string, value: number): number {
    return this.#access('or', word, value);
  }

  and(word: string, value: number): number {
    return this.#access('and', word, value);
  }

  add(word: string, value: number): number {
    return this.#access('add', word, value);
  }

  /** Goes on when all stores of this thread are in memory. */
  fence(): void {
    perform({ kind: 'fence' });
  }

  /** Blocks until the word is not 0 and sets it to 0: an eventfd that is waited for and read. */
  sleep(word: string): void {
    perform({ kind: 'sleep', offset: this.#offset(word), takes: true });
  }

  /** Blocks until the word is not 0, and leaves it: an eventfd that is waited for. */
  waitFor(word: string): void {
    perform({ kind: 'sleep', offset: this.#offset(word), takes: false });
  }

  /** Every number from 0 to `count` - 1, each in an execution of its own. */
  choose(count: number): number {
    return perform({ kind: 'choose', count });
  }

  /** Blocks until the thread has ended (0) or was killed (1) and its stores are in memory. */
  awaitEnd(thread: string): boolean {
    return perform({ kind: 'awaitEnd', thread }) !== 0;
  }

  /** Leaves a number for `check`, in the same step as the access before. Not shared: other threads do not see it. */
  note(name: string, value: number): void {
    note(name, value);
  }

  /**
   * Claims that what this thread will do depends on nothing but `key` and what its accesses return from here on. Histories that
   * settle with the same key are one. For code whose objects come to rest, before it sleeps: all their private state that
   * differs between two such rests must be in the key.
   */
  settled(key: string): void {
    settled(key);
  }

  #access(kind: AccessKind, word: string, value: number, replacement: number = 0): number {
    const access: Access = {
      kind,
      offset: this.#offset(word),
      width: 4,
      isSigned: true,
      value,
      replacement,
    };
    return perform(access);
  }

  #offset(word: string): number {
    const offset = this.#memory.offsetOf(word);
    if (offset === undefined) throw new TypeError(`There is no word ${word}`);
    return offset;
  }
}
