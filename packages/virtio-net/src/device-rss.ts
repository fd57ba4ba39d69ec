import * as ctrl from '@virtlab/abi/virtio-net-ctrl';

/** What the device can do, and how many pairs there are. */
export interface RssLimits {
  readonly hashTypes: number;
  readonly keySizeMax: number;
  readonly tableCountMax: number;
  readonly pairCount: number;
}

export interface HashConfig {
  readonly hashTypes: number;
  readonly key: Uint8Array;
}

/** Receive-side scaling as its driver wants it (§5.1.9.5.7). */
export interface RssConfig extends HashConfig {
  /** Pairs by the low bits of the hash; as many as a power of two. */
  readonly table: readonly number[];
  /** Pair for what has no hash. */
  readonly unclassified: number;
  /** Transmit queues that the driver uses. */
  readonly maxTxPairs: number;
}

const WORD = 2;
/** Bits of an entry that are the pair; the rest is reserved. */
const PAIR_MASK = 0x7fff;

/** The data of VIRTIO_NET_CTRL_MQ_RSS_CONFIG, or undefined for what a device MUST refuse. */
export function parseRssConfig(bytes: Uint8Array, limits: RssLimits): RssConfig | undefined {
  const { size, offset } = ctrl.VIRTIO_NET_RSS_CONFIG;
  if (bytes.length < size) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = view.getUint16(offset.indirection_table_mask, true) + 1;
  if ((count & (count - 1)) !== 0 || count > limits.tableCountMax) return undefined;
  const end = size + count * WORD;
  if (bytes.length < end + WORD) return undefined;
  const table = Array.from({ length: count }, (_, index) => view.getUint16(size + index * WORD, true));
  const unclassified = view.getUint16(offset.unclassified_queue, true);
  const maxTxPairs = view.getUint16(end, true);
  const isPair = (pair: number): boolean => pair <= PAIR_MASK && pair < limits.pairCount;
  if (!isPair(unclassified) || !table.every(isPair)) return undefined;
  if (maxTxPairs < 1 || maxTxPairs > limits.pairCount) return undefined;
  const hash = readHash(view.getUint32(offset.hash_types, true), bytes, end + WORD, limits);
  return hash && { ...hash, table, unclassified, maxTxPairs };
}

/** The data of VIRTIO_NET_CTRL_MQ_HASH_CONFIG, or undefined. */
export function parseHashConfig(bytes: Uint8Array, limits: RssLimits): HashConfig | undefined {
  const { size, offset } = ctrl.VIRTIO_NET_HASH_CONFIG;
  if (bytes.length < size) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return readHash(view.getUint32(offset.hash_types, true), bytes, size, limits);
}

/** The key with its length before it ends the request. */
function readHash(
  hashTypes: number,
  bytes: Uint8Array,
  at: number,
  limits: RssLimits,
): HashConfig | undefined {
  const keySize = bytes[at];
  if (keySize === undefined || keySize > limits.keySizeMax || at + 1 + keySize !== bytes.length)
    return undefined;
  if ((hashTypes & ~limits.hashTypes) !== 0) return undefined;
  return { hashTypes, key: bytes.slice(at + 1) };
}
