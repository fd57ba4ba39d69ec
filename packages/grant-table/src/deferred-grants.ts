import type { DeferralStatistics } from './contract.ts';

const CAPACITY_INITIAL = 16;

/**
 * References that wait for their mapper, oldest first (Linux, drivers/xen/grant-table.c, `deferred_list`): one that is still in use
 * goes to the end of the queue. Empty unless a mapper is slow, dead or hostile, so it allocates when it is needed first.
 */
export class DeferredGrants {
  /** By reference: 1 while it waits. */
  readonly #isWaiting: Uint8Array;
  readonly #onEnded = new Map<number, () => void>();
  #queue = new Uint32Array(0);
  #head = 0;
  #count = 0;
  #countMax = 0;
  #deferredTotal = 0;
  #reclaimedTotal = 0;
  #retryTotal = 0;
  #handler: (() => void) | undefined;

  constructor(entryCountMax: number) {
    this.#isWaiting = new Uint8Array(entryCountMax);
  }

  get count(): number {
    return this.#count;
  }

  get statistics(): DeferralStatistics {
    return {
      waitingCount: this.#count,
      waitingCountMax: this.#countMax,
      deferredTotal: this.#deferredTotal,
      reclaimedTotal: this.#reclaimedTotal,
      retryTotal: this.#retryTotal,
    };
  }

  onDeferred(handler: (() => void) | undefined): void {
    this.#handler = handler;
  }

  has(ref: number): boolean {
    return this.#isWaiting[ref] === 1;
  }

  add(ref: number, onEnded: (() => void) | undefined): void {
    this.#isWaiting[ref] = 1;
    if (onEnded !== undefined) this.#onEnded.set(ref, onEnded);
    this.#push(ref);
    this.#deferredTotal += 1;
    this.#countMax = Math.max(this.#countMax, this.#count);
    if (this.#count === 1) this.#handler?.();
  }

  /** Tries the `limit` oldest, each once; `end` answers whether a reference has ended. Answers how many still wait. */
  reclaim(limit: number, end: (ref: number) => boolean): number {
    for (let left = Math.min(limit, this.#count); left > 0; left--) {
      const ref = this.#queue[this.#head]!;
      this.#head = (this.#head + 1) % this.#queue.length;
      this.#count -= 1;
      if (!end(ref)) {
        this.#retryTotal += 1;
        this.#push(ref);
        continue;
      }
      this.#isWaiting[ref] = 0;
      this.#reclaimedTotal += 1;
      const onEnded = this.#onEnded.get(ref);
      this.#onEnded.delete(ref);
      onEnded?.();
    }
    return this.#count;
  }

  #push(ref: number): void {
    if (this.#count === this.#queue.length) this.#grow();
    this.#queue[(this.#head + this.#count) % this.#queue.length] = ref;
    this.#count += 1;
  }

  #grow(): void {
    const grown = new Uint32Array(Math.max(CAPACITY_INITIAL, this.#queue.length * 2));
    for (let index = 0; index < this.#count; index++) {
      grown[index] = this.#queue[(this.#head + index) % this.#queue.length]!;
    }
    this.#queue = grown;
    this.#head = 0;
  }
}
