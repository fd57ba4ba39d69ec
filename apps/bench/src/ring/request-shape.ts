import type { RingFeatures } from '@virtlab/vring';

/** Entries of the ring, and requests between two publications on either side. */
export const RING_SIZE = 256;
export const BATCH_COUNT = 16;

export interface RequestShape {
  /** Buffers of a request: the first device-readable, the others device-writable. */
  readonly bufferCount: number;
  readonly isIndirect: boolean;
  /** What the design allows for one request. */
  readonly budgetNs: number | undefined;
}

/** What was negotiated beside indirect descriptors, and how a row says it. */
export interface RingVariant {
  readonly words: string;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
}

export const VARIANTS: readonly RingVariant[] = [
  { words: 'event index', eventIdx: true, inOrder: false },
  { words: 'flags', eventIdx: false, inOrder: false },
  { words: 'event index, in order', eventIdx: true, inOrder: true },
];

export function featuresOf(
  packed: boolean,
  isIndirect: boolean,
  { eventIdx, inOrder }: RingVariant,
): RingFeatures {
  return { packed, indirect: isIndirect, eventIdx, inOrder };
}
