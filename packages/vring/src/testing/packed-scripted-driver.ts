import { VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_PACKED_DESC } from '@virtlab/abi/virtio-ring';
import {
  packedAvailableFlags,
  packedUsedFlags,
  type RawPackedDescriptor,
  type RawPackedRing,
} from './packed-raw-ring.ts';
import type { RawUsed } from './raw-ring.ts';

const OWNER = packedUsedFlags(1);

/**
 * A driver that writes into a packed ring what a test tells it, right or wrong, for testing a device half or a whole
 * device. It keeps no list of buffer ids: the test chooses them. `ring` reaches every word directly.
 */
export class PackedScriptedDriver {
  readonly ring: RawPackedRing;
  /** Where the next chain goes. */
  slot = 0;
  wrap = 1;
  /** Where the next used descriptor is expected. */
  #usedSlot = 0;
  #usedWrap = 1;
  readonly #slotCounts = new Map<number, number>();

  constructor(ring: RawPackedRing) {
    this.ring = ring;
  }

  /**
   * Writes `descriptors` into the next slots as one chain and makes it available, the first descriptor last. Each has
   * the id unless it has one of its own; its flags are added to those that the chain needs.
   */
  makeAvailable(id: number, ...descriptors: readonly Partial<RawPackedDescriptor>[]): void {
    const head = this.slot;
    this.#slotCounts.set(id, descriptors.length);
    const written = descriptors.map((descriptor, i) => {
      const isLast = i + 1 === descriptors.length;
      const flags =
        (descriptor.flags ?? 0) | packedAvailableFlags(this.wrap) | (isLast ? 0 : VRING_DESC_F_NEXT);
      const slot = this.slot;
      this.advance(1);
      return { slot, descriptor: { id, ...descriptor, flags } };
    });
    for (const { slot, descriptor } of written.toReversed()) this.ring.setDescriptor(slot, descriptor);
    if (written.length === 0) throw new RangeError(`An empty chain at slot ${head}`);
  }

  /** Moves on without writing. */
  advance(slotCount: number): void {
    this.slot += slotCount;
    if (this.slot < this.ring.size) return;
    this.slot -= this.ring.size;
    this.wrap ^= 1;
  }

  /** Writes an indirect table at a device address and gives the descriptor that names it. */
  table(address: bigint, ...entries: readonly Partial<RawPackedDescriptor>[]): Partial<RawPackedDescriptor> {
    entries.forEach((entry, i) => {
      this.ring.writeDescriptor(address + BigInt(i * VRING_PACKED_DESC.size), entry);
    });
    return { address, size: entries.length * VRING_PACKED_DESC.size, flags: VRING_DESC_F_INDIRECT };
  }

  /** Used descriptors that arrived since the last time. */
  takeUsed(): RawUsed[] {
    const taken: RawUsed[] = [];
    while (taken.length < this.ring.size) {
      const { id, size, flags } = this.ring.descriptor(this.#usedSlot);
      if ((flags & OWNER) !== packedUsedFlags(this.#usedWrap)) break;
      taken.push({ id, size });
      this.#usedSlot += this.#slotCounts.get(id) ?? 1;
      if (this.#usedSlot < this.ring.size) continue;
      this.#usedSlot -= this.ring.size;
      this.#usedWrap ^= 1;
    }
    return taken;
  }
}
