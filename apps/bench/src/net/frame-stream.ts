/** Bytes of the length before each frame on a stream. */
const LENGTH_SIZE = 4;
const CAPACITY_MIN = 1 << 16;

/** Frames with their lengths before them, as many as go into one write. */
export function encodeFrames(frames: readonly Uint8Array[]): Uint8Array {
  const size = frames.reduce((sum, frame) => sum + LENGTH_SIZE + frame.length, 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const frame of frames) {
    view.setUint32(at, frame.length);
    bytes.set(frame, at + LENGTH_SIZE);
    at += LENGTH_SIZE + frame.length;
  }
  return bytes;
}

/** Cuts a stream into frames again, however it was delivered. */
export class FrameDecoder {
  readonly #onFrame: (frame: Uint8Array) => void;
  #rest = new Uint8Array(CAPACITY_MIN);
  #restSize = 0;

  /** Each frame is valid during the call. */
  constructor(onFrame: (frame: Uint8Array) => void) {
    this.#onFrame = onFrame;
  }

  decode(bytes: Uint8Array): void {
    if (this.#restSize === 0) {
      this.#keep(bytes, this.#cut(bytes));
      return;
    }
    const all = new Uint8Array(this.#restSize + bytes.length);
    all.set(this.#rest.subarray(0, this.#restSize));
    all.set(bytes, this.#restSize);
    this.#keep(all, this.#cut(all));
  }

  /** Hands on the whole frames; where the rest begins. */
  #cut(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    while (at + LENGTH_SIZE <= bytes.length) {
      const end = at + LENGTH_SIZE + view.getUint32(at);
      if (end > bytes.length) break;
      this.#onFrame(bytes.subarray(at + LENGTH_SIZE, end));
      at = end;
    }
    return at;
  }

  #keep(bytes: Uint8Array, from: number): void {
    this.#restSize = bytes.length - from;
    if (this.#restSize > this.#rest.length) this.#rest = new Uint8Array(2 * this.#restSize);
    this.#rest.set(bytes.subarray(from));
  }
}
