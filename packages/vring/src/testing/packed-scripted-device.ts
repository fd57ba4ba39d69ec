import {
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_PACKED_DESC,
} from '@virtlab/abi/virtio-ring';
import {
  packedAvailableFlags,
  packedUsedFlags,
  type RawPackedDescriptor,
  type RawPackedRing,
} from './packed-raw-ring.ts';

const OWNER = packedUsedFlags(1);

/**
 * A device that writes into a packed ring what a test tells it, right or wrong, for testing a driver half or a whole
 * driver. `ring` reaches every word directly, those that only a driver should write included.
 */
export class PackedScriptedDevice {
  readonly ring: RawPackedRing;
  /** Where the next used descriptor goes. */
  usedSlot = 0;
  usedWrap = 1;
  #slot = 0;
  #wrap = 1;
  readonly #chains = new Map<number, readonly RawPackedDescriptor[]>();

  constructor(ring: RawPackedRing) {
    this.ring = ring;
  }

  /** Ids of the buffers made available since the last time. */
  takeAvailable(): number[] {
    const ids: number[] = [];
    while (ids.length < this.ring.size) {
      if ((this.ring.descriptor(this.#slot).flags & OWNER) !== packedAvailableFlags(this.#wrap)) break;
      const chain: RawPackedDescriptor[] = [];
      let more = true;
      while (more && chain.length < this.ring.size) {
        const descriptor = this.ring.descriptor(this.#slot);
        chain.push(descriptor);
        more = (descriptor.flags & VRING_DESC_F_NEXT) !== 0;
        this.#slot += 1;
        if (this.#slot === this.ring.size) [this.#slot, this.#wrap] = [0, this.#wrap ^ 1];
      }
      const { id } = chain.at(-1)!;
      this.#chains.set(id, chain);
      ids.push(id);
    }
    return ids;
  }

  /** The ring descriptors of a buffer id, as they were when it was taken. */
  slots(id: number): readonly RawPackedDescriptor[] {
    return this.#chains.get(id) ?? [];
  }

  /** The buffers behind an id, an indirect table opened. */
  chain(id: number): RawPackedDescriptor[] {
    return this.slots(id).flatMap((descriptor) => {
      if ((descriptor.flags & VRING_DESC_F_INDIRECT) === 0) return [descriptor];
      return Array.from({ length: descriptor.size / VRING_PACKED_DESC.size }, (_, i) =>
        this.ring.readDescriptor(descriptor.address + BigInt(i * VRING_PACKED_DESC.size)),
      );
    });
  }

  /** Writes a used descriptor at the next place and skips `slotCount`: as many as the chain has, if it has been taken. */
  use(id: number, size: number, slotCount: number = Math.max(1, this.slots(id).length)): void {
    this.ring.setDescriptor(this.usedSlot, {
      id,
      size,
      flags: packedUsedFlags(this.usedWrap) | (size === 0 ? 0 : VRING_DESC_F_WRITE),
    });
    this.usedSlot += slotCount;
    if (this.usedSlot >= this.ring.size)
      [this.usedSlot, this.usedWrap] = [this.usedSlot - this.ring.size, this.usedWrap ^ 1];
  }
}
