/**
 * The bytes of a configuration space as the driver, or whoever answers in the device's name, last read them. A
 * VhostUserFrontend reads them once, when it connects, and gives them to one driver after the other; so what changes while
 * no driver is there to be told of it must be told to the next one.
 */
export class SeenConfig {
  readonly #bytes: Uint8Array;
  /** 1 where `#bytes` was read. */
  readonly #isSeen: Uint8Array;
  readonly #now: Uint8Array;

  constructor(size: number) {
    this.#bytes = new Uint8Array(size);
    this.#isSeen = new Uint8Array(size);
    this.#now = new Uint8Array(size);
  }

  /** These bytes were read. They lie within the space. */
  note(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    this.#isSeen.fill(1, offset, offset + bytes.length);
  }

  /** The driver wrote there, and knows what it wrote. */
  forget(offset: number, size: number): void {
    this.#isSeen.fill(0, offset, offset + size);
  }

  /** Whether any byte that was read is another one by now; `read` fills in the whole space. */
  isStale(read: (out: Uint8Array) => void): boolean {
    if (!this.#isSeen.includes(1)) return false;
    read(this.#now);
    return this.#bytes.some((byte, index) => this.#isSeen[index] === 1 && byte !== this.#now[index]);
  }
}
