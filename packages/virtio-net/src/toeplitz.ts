/** Bytes that are hashed at most: two IPv6 addresses and two ports. */
export const TOEPLITZ_INPUT_SIZE_MAX = 36;
/** Bytes of a key that is used up by such an input (§5.1.9.4.3.2). */
export const TOEPLITZ_KEY_SIZE = 40;

const BYTE_VALUES = 256;

/**
 * The Toeplitz hash (§5.1.9.4.3; Microsoft, "RSS hashing functions"): for each bit of the input that is set, the 32 bits of the
 * key that start at its position, all xored. One table look-up a byte.
 */
export class Toeplitz {
  /** By position and value of an input byte. */
  readonly #table = new Uint32Array(TOEPLITZ_INPUT_SIZE_MAX * BYTE_VALUES);

  /** A shorter key goes on with zeros. */
  constructor(key: Uint8Array) {
    const padded = new Uint8Array(TOEPLITZ_KEY_SIZE);
    padded.set(key.subarray(0, TOEPLITZ_KEY_SIZE));
    const view = new DataView(padded.buffer);
    for (let position = 0; position < TOEPLITZ_INPUT_SIZE_MAX; position += 1) {
      const window = view.getUint32(position);
      const next = padded[position + 4]!;
      for (let bit = 0; bit < 8; bit += 1) {
        // Bit 0 of the input is the most significant one of its byte.
        const shifted = bit === 0 ? window : ((window << bit) | (next >>> (8 - bit))) >>> 0;
        this.#fillBit(position, 0x80 >>> bit, shifted);
      }
    }
  }

  /** Hash of `input[0, size)`, 32 bits. */
  hash(input: Uint8Array, size: number): number {
    const table = this.#table;
    let hash = 0;
    for (let at = 0; at < size; at += 1) hash ^= table[at * BYTE_VALUES + input[at]!]!;
    return hash >>> 0;
  }

  #fillBit(position: number, mask: number, bits: number): void {
    const base = position * BYTE_VALUES;
    for (let value = 0; value < BYTE_VALUES; value += 1) {
      if ((value & mask) !== 0) this.#table[base + value] = this.#table[base + value]! ^ bits;
    }
  }
}
