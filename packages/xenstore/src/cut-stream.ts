import type { ByteStream, ByteStreamHandler } from './contract.ts';

/** A stream that breaks after a number of bytes were sent, for tests of what clients make of it. */
export class CutStream implements ByteStream {
  readonly #stream: ByteStream;
  readonly #onCut: () => void;
  #leftSize: number;
  #isCut = false;

  /** `onCut` is called once `size` bytes were taken; it is to close the stream. */
  constructor(stream: ByteStream, size: number, onCut: () => void) {
    this.#stream = stream;
    this.#leftSize = size;
    this.#onCut = onCut;
  }

  attach(handler: ByteStreamHandler): void {
    this.#stream.attach(handler);
  }

  send(bytes: Uint8Array): number {
    if (this.#isCut) return bytes.length;
    const isLast = bytes.length >= this.#leftSize;
    const taken =
      this.#leftSize === 0 ? 0 : this.#stream.send(isLast ? bytes.subarray(0, this.#leftSize) : bytes);
    this.#leftSize -= taken;
    if (this.#leftSize > 0) return taken;
    this.#isCut = true;
    this.#onCut();
    return bytes.length;
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  close(failure?: 'protocol'): void {
    this.#stream.close(failure);
  }
}
