interface Counted {
  count: number;
}

/**
 * Counts by key without growing without bound: when twice as many keys are held as are to be kept, those counted
 * least make room, of equals the ones that came first. So a frequent key stays, and a key that becomes frequent has
 * `keptCount` others' first times to do so.
 */
export class Tally<Entry extends Counted> {
  readonly #keptCount: number;
  #entries = new Map<string, Entry>();

  constructor(keptCount: number) {
    this.#keptCount = keptCount;
  }

  get(key: string): Entry | undefined {
    return this.#entries.get(key);
  }

  /** A key that `get` did not find. */
  add(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    if (this.#entries.size >= 2 * this.#keptCount) this.#prune();
  }

  /** Most frequent first, at most `count`. */
  top(count: number): Entry[] {
    return [...this.#entries.values()].toSorted((a, b) => b.count - a.count).slice(0, count);
  }

  #prune(): void {
    const newestFirst = [...this.#entries].toReversed();
    const kept = newestFirst.toSorted(([, a], [, b]) => b.count - a.count).slice(0, this.#keptCount);
    this.#entries = new Map(kept.toReversed());
  }
}
