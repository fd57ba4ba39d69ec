/** Bytes of one message between peers: as many as one buffer of the ring between processes holds. */
export const MESSAGE_SIZE = 4;

/**
 * Takes numbered messages out of a stream, however it was cut, and checks that each is the next of its sequence, as the two
 * sides of the ring do with buffers.
 */
export class MessageReader {
  #expected = 0;
  /** Of a message that has not come whole. */
  readonly #partial = new Uint8Array(MESSAGE_SIZE);
  readonly #partialView: DataView = new DataView(this.#partial.buffer);
  #partialSize = 0;

  /** How many messages end in these bytes. Throws if one is not what it should be. */
  read(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let count = 0;
    let at = 0;
    while (this.#partialSize > 0 && at < bytes.length) {
      this.#partial[this.#partialSize] = bytes[at]!;
      at += 1;
      this.#partialSize = (this.#partialSize + 1) % MESSAGE_SIZE;
      if (this.#partialSize === 0) {
        this.#check(this.#partialView.getUint32(0, true));
        count += 1;
      }
    }
    for (; at + MESSAGE_SIZE <= bytes.length; at += MESSAGE_SIZE) {
      this.#check(view.getUint32(at, true));
      count += 1;
    }
    for (; at < bytes.length; at += 1) {
      this.#partial[this.#partialSize] = bytes[at]!;
      this.#partialSize += 1;
    }
    return count;
  }

  #check(found: number): void {
    if (found !== this.#expected) throw new Error(`Message ${found} came instead of ${this.#expected}`);
    this.#expected = (this.#expected + 1) >>> 0;
  }
}

/** Makes numbered messages, the next ones of the sequence that a `MessageReader` expects. */
export class MessageWriter {
  #next = 0;

  /** So many messages in bytes of their own, for a stream keeps what it was given. */
  write(count: number): Uint8Array {
    const bytes = new Uint8Array(count * MESSAGE_SIZE);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < count; i += 1) {
      view.setUint32(i * MESSAGE_SIZE, this.#next, true);
      this.#next = (this.#next + 1) >>> 0;
    }
    return bytes;
  }
}
