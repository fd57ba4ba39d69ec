import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { BenchPlan } from '../contender.ts';

/** What a guest's driver is to accept of the ring. Default: a split ring, indirect descriptors, event indices. */
export interface DriverVariant {
  readonly packed?: boolean;
  readonly inOrder?: boolean;
  readonly indirect?: boolean;
  readonly eventIdx?: boolean;
  /** Queues of a disk, or pairs of them of a card. Default 1. */
  readonly queueCount?: number;
}

/** How a table says it. */
export interface NamedVariant extends DriverVariant {
  readonly words: string;
}

export const SPLIT_VARIANTS: readonly NamedVariant[] = [
  { words: 'split' },
  { words: 'split, direct', indirect: false },
  { words: 'split, flags', eventIdx: false },
  { words: 'split, in order', inOrder: true },
];

export const PACKED_VARIANTS: readonly NamedVariant[] = [
  { words: 'packed', packed: true },
  { words: 'packed, flags', packed: true, eventIdx: false },
  { words: 'packed, in order', packed: true, inOrder: true },
];

/** As many of them as the plan has time for. */
export function variants(
  { isBrief = false }: Pick<BenchPlan, 'isBrief'>,
  all: readonly NamedVariant[],
): readonly NamedVariant[] {
  return isBrief ? all.slice(0, 2) : all;
}

export function ringFeaturesOf(variant: DriverVariant): FeatureBits {
  const { packed = false, inOrder = false, indirect = true, eventIdx = true } = variant;
  return featureBits(
    ...(packed ? [VIRTIO_F_RING_PACKED] : []),
    ...(inOrder ? [VIRTIO_F_IN_ORDER] : []),
    ...(indirect ? [VIRTIO_RING_F_INDIRECT_DESC] : []),
    ...(eventIdx ? [VIRTIO_RING_F_EVENT_IDX] : []),
  );
}

/** Keeps a driver for as long as it is asked for the same variant; for another one resets the device and makes it anew. */
export class DriverKeeper<Key extends object, Driver> {
  readonly #make: (key: Key) => Promise<{ readonly driver: Driver; readonly close: () => Promise<void> }>;
  #held: { readonly name: string; readonly driver: Driver; readonly close: () => Promise<void> } | undefined;

  constructor(make: (key: Key) => Promise<{ readonly driver: Driver; readonly close: () => Promise<void> }>) {
    this.#make = make;
  }

  async get(key: Key): Promise<Driver> {
    const name = JSON.stringify(key);
    if (this.#held?.name !== name) {
      await this.#held?.close();
      this.#held = undefined;
      this.#held = { name, ...(await this.#make(key)) };
    }
    return this.#held.driver;
  }
}
