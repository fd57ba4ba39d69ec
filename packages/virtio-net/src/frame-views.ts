import type { DescriptorChain } from '@virtlab/vring';
import { copyBytes } from './copy-bytes.ts';
import type { FrameView } from './network.ts';

const NO_BYTES = new Uint8Array();

/** A frame in contiguous bytes. Reused: `set` points it at the next one. */
export class BytesFrame implements FrameView {
  size = 0;
  #bytes: Uint8Array = NO_BYTES;
  #from = 0;

  set(bytes: Uint8Array, from: number = 0, size: number = bytes.length - from): this {
    this.#bytes = bytes;
    this.#from = from;
    this.size = size;
    return this;
  }

  copy(at: number, size: number, target: Uint8Array, targetAt: number): void {
    copyBytes(this.#bytes, this.#from + at, target, targetAt, size);
  }
}

/** A frame in the device-readable part of a chain, after a header. Reused: `set` points it at the next one. */
export class ChainFrame implements FrameView {
  size = 0;
  #chain: DescriptorChain | undefined;
  #headerSize = 0;
  /** The segment where the last copy ended, and the position of its first byte: copies mostly go on from there. */
  #segment = 0;
  #segmentStart = 0;

  /** The chain is at least `headerSize` bytes long. */
  set(chain: DescriptorChain, headerSize: number): this {
    this.#chain = chain;
    this.#headerSize = headerSize;
    this.#segment = 0;
    this.#segmentStart = 0;
    this.size = chain.readableSize - headerSize;
    return this;
  }

  copy(at: number, size: number, target: Uint8Array, targetAt: number): void {
    const { segments, regions } = this.#chain!;
    const from = at + this.#headerSize;
    let segment = this.#segment;
    let start = this.#segmentStart;
    if (from < start) {
      segment = 0;
      start = 0;
    }
    let done = 0;
    while (done < size) {
      const segmentSize = segments.size[segment]!;
      const skip = from + done - start;
      if (skip >= segmentSize) {
        start += segmentSize;
        segment += 1;
        continue;
      }
      const count = Math.min(segmentSize - skip, size - done);
      const { u8 } = regions[segments.region[segment]!]!;
      copyBytes(u8, segments.offset[segment]! + skip, target, targetAt + done, count);
      done += count;
    }
    this.#segment = segment;
    this.#segmentStart = start;
  }
}
