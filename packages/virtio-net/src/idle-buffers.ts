/** Buffers of one size that are not in flight; the one used last, which is warm, is taken first. */
export class IdleBuffers {
  readonly #idle: Uint32Array;
  count: number;

  constructor(count: number) {
    this.#idle = Uint32Array.from({ length: count }, (_, index) => index);
    this.count = count;
  }

  /** Only when there is one. */
  take(): number {
    this.count -= 1;
    return this.#idle[this.count]!;
  }

  give(buffer: number): void {
    this.#idle[this.count] = buffer;
    this.count += 1;
  }
}
