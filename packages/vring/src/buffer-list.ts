import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import type { BufferList } from './contract.ts';

/** Bits of word `LIST_KIND`: bit 1 is `VRING_DESC_F_WRITE`, this one marks memory that is lent already. */
export const BUFFER_COHERENT = 4;

const SIZE_MAX = 0xffff_ffff;
const CAPACITY_DEFAULT = 16;

/**
 * An empty list with room for `capacity` buffers (default 16); it grows by doubling and keeps what it has.
 * Throws `RangeError` for a capacity that is no positive integer.
 */
export function createBufferList(capacity: number = CAPACITY_DEFAULT): BufferList {
  if (!Number.isInteger(capacity) || capacity < 1) {
    throw new RangeError(`Buffer list capacity ${capacity} is not a positive integer`);
  }
  return new RingBufferList(capacity);
}

/** Words of a buffer in `RingBufferList.words`: one array instead of four, because each array touched costs. */
export const LIST_WORDS = 4;
/** Offset in the mapper's memory, or the low word of a coherent address. */
export const LIST_LOW = 0;
export const LIST_HIGH = 1;
export const LIST_SIZE = 2;
export const LIST_KIND = 3;

// V8 folds a module's own constants into optimized code, but loads imported and exported ones from their cells.
const F_WRITE = VRING_DESC_F_WRITE;
const COHERENT = BUFFER_COHERENT;
const WORDS = LIST_WORDS;
const LOW = LIST_LOW;
const HIGH = LIST_HIGH;
const SIZE = LIST_SIZE;
const KIND = LIST_KIND;

/** The list as the driver half reads it. */
export class RingBufferList implements BufferList {
  count = 0;
  /** Bytes in the writable part: what a device may claim to have written. */
  writableSize = 0;
  words: Uint32Array;
  #totalSize = 0;

  constructor(capacity: number) {
    this.words = new Uint32Array(capacity * WORDS);
  }

  clear(): void {
    this.count = 0;
    this.writableSize = 0;
    this.#totalSize = 0;
  }

  addReadable(offset: number, size: number): void {
    this.#add(offset, 0, size, 0);
  }

  addWritable(offset: number, size: number): void {
    this.#add(offset, 0, size, F_WRITE);
  }

  addCoherentReadable(addressLow: number, addressHigh: number, size: number): void {
    this.#add(addressLow, addressHigh, size, COHERENT);
  }

  addCoherentWritable(addressLow: number, addressHigh: number, size: number): void {
    this.#add(addressLow, addressHigh, size, COHERENT | F_WRITE);
  }

  #add(low: number, high: number, size: number, kind: number): void {
    if (low >>> 0 !== low) throw new RangeError(`Buffer at ${low} is not at an unsigned 32-bit offset`);
    if (size >>> 0 !== size || size === 0 || this.#totalSize + size > SIZE_MAX) {
      throw new RangeError(
        `Buffer of ${size} bytes after ${this.#totalSize} is empty or over ${SIZE_MAX} bytes`,
      );
    }
    if ((kind & F_WRITE) !== 0) this.writableSize += size;
    else if (this.writableSize !== 0) {
      throw new RangeError('Device-readable buffer after a device-writable one (VIRTIO §2.7.4.2)');
    }
    const at = this.count * WORDS;
    if (at === this.words.length) this.#grow();
    const words = this.words;
    words[at + LOW] = low;
    words[at + HIGH] = high;
    words[at + SIZE] = size;
    words[at + KIND] = kind;
    this.count++;
    this.#totalSize += size;
  }

  #grow(): void {
    const words = new Uint32Array(this.words.length * 2);
    words.set(this.words);
    this.words = words;
  }
}
