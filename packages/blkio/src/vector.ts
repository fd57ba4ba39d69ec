import type { BlkioRegion, BlkioVector } from './contract.ts';
import type { DiskState } from './disk-state.ts';
import { Region } from './region.ts';

const WORD = 2 ** 32;
const CAPACITY_DEFAULT = 16;

/** An empty vector with room for `capacity` pieces; it grows and keeps what it has. Throws `RangeError`. */
export function createVector(capacity: number = CAPACITY_DEFAULT): BlkioVector {
  if (!Number.isInteger(capacity) || capacity < 1)
    throw new RangeError(`Vector capacity ${capacity} is not a positive integer`);
  return new RequestVector(capacity);
}

/** The pieces as a queue reads them. */
export class RequestVector implements BlkioVector {
  count = 0;
  /** Bytes of all pieces. */
  totalSize = 0;
  /** Bytes of the largest. */
  pieceSizeMax = 0;
  addressLow: Uint32Array;
  addressHigh: Uint32Array;
  sizes: Uint32Array;
  readonly #regions: Region[] = [];

  constructor(capacity: number) {
    this.addressLow = new Uint32Array(capacity);
    this.addressHigh = new Uint32Array(capacity);
    this.sizes = new Uint32Array(capacity);
  }

  clear(): void {
    this.count = 0;
    this.totalSize = 0;
    this.pieceSizeMax = 0;
  }

  add(region: BlkioRegion, offset: number, size: number): void {
    if (!(region instanceof Region) || region.owner === undefined)
      throw new TypeError('The region is of no disk that is open, or was given back');
    const isWhole = Number.isInteger(offset) && Number.isInteger(size);
    if (!isWhole || offset < 0 || size <= 0 || size >= WORD || offset + size > region.size)
      throw new RangeError(`${offset} and ${size} are not inside a region of ${region.size} bytes`);
    if (this.count === this.sizes.length) this.#grow();
    const low = region.addressLow + offset;
    const at = this.count;
    this.addressLow[at] = low;
    this.addressHigh[at] = low >= WORD ? region.addressHigh + 1 : region.addressHigh;
    this.sizes[at] = size;
    this.#regions[at] = region;
    this.count = at + 1;
    this.totalSize += size;
    if (size > this.pieceSizeMax) this.pieceSizeMax = size;
  }

  /** Every region is still one of this disk. */
  isOf(disk: DiskState): boolean {
    for (let at = 0; at < this.count; at += 1) if (this.#regions[at]!.owner !== disk) return false;
    return true;
  }

  copy(): RequestVector {
    const copy = new RequestVector(this.sizes.length);
    copy.count = this.count;
    copy.totalSize = this.totalSize;
    copy.pieceSizeMax = this.pieceSizeMax;
    copy.addressLow.set(this.addressLow);
    copy.addressHigh.set(this.addressHigh);
    copy.sizes.set(this.sizes);
    copy.#regions.push(...this.#regions);
    return copy;
  }

  #grow(): void {
    const grown = (words: Uint32Array): Uint32Array => {
      const larger = new Uint32Array(words.length * 2);
      larger.set(words);
      return larger;
    };
    this.addressLow = grown(this.addressLow);
    this.addressHigh = grown(this.addressHigh);
    this.sizes = grown(this.sizes);
  }
}
