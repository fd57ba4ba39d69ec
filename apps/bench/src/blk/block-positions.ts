/** Bytes of one request, and of the disk that they go all over. */
export const BLOCK_SIZE = 4096;
export const DISK_SIZE: number = 64 << 20;

const BLOCK_COUNT = DISK_SIZE / BLOCK_SIZE;
const SEED = 0x2545_f491;

/** Block numbers in a random order that is the same every time (Marsaglia's xorshift32), or one after the other. */
export class BlockPositions {
  #state: number = SEED;
  #following = 0;

  /** The block after the one before, and after the last one the first. */
  following(): number {
    const block = this.#following;
    this.#following = (block + 1) % BLOCK_COUNT;
    return block;
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % BLOCK_COUNT;
  }
}
