import { createCompletions } from './completions.ts';
import type { BlkioCompletions } from './contract.ts';

export interface StreamSource {
  /** Takes what is complete. */
  take(into: BlkioCompletions): number;
  /** Nothing more will complete. */
  isOver(): boolean;
  /** Nobody iterates any more. */
  onEnd(): void;
}

/**
 * Batches of completions for `for await`. Each is the same object, valid until the next is asked for; one is asked for at
 * a time.
 */
export class CompletionStream implements AsyncIterableIterator<BlkioCompletions> {
  readonly #source: StreamSource;
  readonly #batch: BlkioCompletions;
  #waiter: PromiseWithResolvers<IteratorResult<BlkioCompletions>> | undefined;
  #isEnded = false;

  constructor(depth: number, source: StreamSource) {
    this.#source = source;
    this.#batch = createCompletions(depth);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<BlkioCompletions>> {
    if (this.#waiter !== undefined) throw new TypeError('A batch of completions is being waited for already');
    const ready = this.#ready();
    if (ready !== undefined) return Promise.resolve(ready);
    this.#waiter = Promise.withResolvers();
    return this.#waiter.promise;
  }

  return(): Promise<IteratorResult<BlkioCompletions>> {
    const end = this.#end();
    this.#waiter?.resolve(end);
    this.#waiter = undefined;
    return Promise.resolve(end);
  }

  /** There may be completions, or nothing more to come. */
  wake(): void {
    if (this.#waiter === undefined) return;
    const ready = this.#ready();
    if (ready === undefined) return;
    this.#waiter.resolve(ready);
    this.#waiter = undefined;
  }

  #ready(): IteratorResult<BlkioCompletions> | undefined {
    if (this.#isEnded) return { done: true, value: undefined };
    if (this.#source.take(this.#batch) > 0) return { done: false, value: this.#batch };
    return this.#source.isOver() ? this.#end() : undefined;
  }

  #end(): IteratorResult<BlkioCompletions> {
    if (!this.#isEnded) {
      this.#isEnded = true;
      this.#source.onEnd();
    }
    return { done: true, value: undefined };
  }
}
