/**
 * Why a session refused what it did. That is told beside its stream, so earlier or later than the acknowledgements that it belongs
 * to, but in their order.
 */
export class RefusalReasons {
  readonly #told: string[] = [];
  readonly #waiting: ((reason: string | undefined) => void)[] = [];
  #isOver = false;

  tell(reason: string): void {
    if (this.#isOver) return;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#told.push(reason);
    else waiting(reason);
  }

  /** Of the next acknowledgement; undefined when the session ended before it said. */
  async next(): Promise<string | undefined> {
    const told = this.#told.shift();
    if (told !== undefined || this.#isOver) return told;
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    this.#waiting.push(resolve);
    return await promise;
  }

  /** The session is over: nobody waits any more. */
  end(): void {
    this.#isOver = true;
    for (const waiting of this.#waiting.splice(0)) waiting(undefined);
  }
}
