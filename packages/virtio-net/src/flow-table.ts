import { be16, type PacketHeaders } from './packet-headers.ts';

/** A power of two. */
const ENTRY_COUNT = 1024;
const GOLDEN = 0x9e37_79b1;

/** The same number for both directions of a flow: addresses, and ports where there are any. */
export function flowHash(bytes: Uint8Array, headers: PacketHeaders): number {
  if (headers.ipVersion === 0) return 0;
  const { sourceAt, destinationAt, addressSize, protocol, transportAt } = headers;
  let hash = protocol;
  for (let at = 0; at < addressSize; at += 2) {
    hash = Math.imul(hash, 31) + (be16(bytes, sourceAt + at) ^ be16(bytes, destinationAt + at));
  }
  if (protocol !== 0) hash = Math.imul(hash, 31) + (be16(bytes, transportAt) ^ be16(bytes, transportAt + 2));
  hash = Math.imul(hash ^ (hash >>> 15), GOLDEN);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/**
 * Automatic receive steering (§5.1.9.5.6): what belongs to a flow goes to the pair that its driver sent it from last. A flow
 * that was not seen, or whose entry another one took, is spread by its hash.
 */
export class FlowTable {
  /** Pair and 1, or 0. */
  readonly #pairs = new Uint16Array(ENTRY_COUNT);

  clear(): void {
    this.#pairs.fill(0);
  }

  learn(hash: number, pair: number): void {
    this.#pairs[hash % ENTRY_COUNT] = pair + 1;
  }

  /** A pair below `pairCount`. */
  find(hash: number, pairCount: number): number {
    const learned = this.#pairs[hash % ENTRY_COUNT]!;
    return learned > 0 && learned <= pairCount ? learned - 1 : hash % pairCount;
  }
}
