import type { FrameView } from './network.ts';

/**
 * Frames copied into memory of ours until somebody takes them, first in, first out, in a fixed number of bytes. The space
 * is used anew once all are taken.
 */
export class FrameQueue {
  readonly #bytes: Uint8Array;
  readonly #ends: number[] = [];
  #next = 0;
  #end = 0;
  #start = 0;

  constructor(capacitySize: number) {
    this.#bytes = new Uint8Array(capacitySize);
  }

  get isEmpty(): boolean {
    return this.#next === this.#ends.length;
  }

  /** False when there is no room. */
  add(frame: FrameView): boolean {
    const end = this.#end + frame.size;
    if (end > this.#bytes.length) return false;
    frame.copy(0, frame.size, this.#bytes, this.#end);
    this.#ends.push(end);
    this.#end = end;
    return true;
  }

  /** The oldest frame, valid until the queue was empty and is added to. Only when it is not empty. */
  take(): Uint8Array {
    const end = this.#ends[this.#next]!;
    const frame = this.#bytes.subarray(this.#start, end);
    this.#next += 1;
    this.#start = end;
    return frame;
  }

  /** Only when all frames are taken and nobody looks at one: gives their space back. */
  recycle(): void {
    this.#ends.length = 0;
    this.#next = 0;
    this.#start = 0;
    this.#end = 0;
  }
}
