import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DescriptorChain } from '@virtlab/vring';
import { copyBytes } from './copy-bytes.ts';
import { type FrameOffload, NO_OFFLOAD } from './frame-offload.ts';
import type { FrameView } from './network.ts';

const NO_BYTES = new Uint8Array();

/** A frame in contiguous bytes. Reused: `set` points it at the next one. */
export class BytesFrame implements FrameView {
  size = 0;
  offload: FrameOffload = NO_OFFLOAD;
  #bytes: Uint8Array = NO_BYTES;
  #from = 0;

  set(
    bytes: Uint8Array,
    from: number = 0,
    size: number = bytes.length - from,
    offload: FrameOffload = NO_OFFLOAD,
  ): this {
    this.#bytes = bytes;
    this.#from = from;
    this.size = size;
    this.offload = offload;
    return this;
  }

  copy(at: number, size: number, target: Uint8Array, targetAt: number): void {
    copyBytes(this.#bytes, this.#from + at, target, targetAt, size);
  }
}

/** A frame in the device-readable part of a chain, after a header. Reused: `set` points it at the next one. */
export class ChainFrame implements FrameView {
  size = 0;
  offload: FrameOffload = NO_OFFLOAD;
  memory: MemoryRegion | undefined;
  start = 0;
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
    this.offload = NO_OFFLOAD;
    const { segments, readableCount } = chain;
    if (readableCount === 1) this.#lieIn(chain, 0, headerSize);
    else if (readableCount === 2 && segments.size[0] === headerSize) this.#lieIn(chain, 1, 0);
    else this.memory = undefined;
    return this;
  }

  #lieIn({ segments, regions }: DescriptorChain, segment: number, skip: number): void {
    this.memory = regions[segments.region[segment]!];
    this.start = segments.offset[segment]! + skip;
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
