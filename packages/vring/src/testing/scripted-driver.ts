import { VRING_DESC, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT } from '@virtlab/abi/virtio-ring';
import type { RawDescriptor, RawRing, RawUsed } from './raw-ring.ts';

/**
 * A driver that writes what a test tells it, right or wrong, for testing a device half or a whole device. It keeps no
 * free list: the test chooses the descriptors. `ring` reaches every word directly.
 */
export class ScriptedDriver {
  readonly ring: RawRing;
  #nextUsed = 0;

  constructor(ring: RawRing) {
    this.ring = ring;
  }

  /** Writes `descriptors` from index `first` on, linked in order through NEXT; the head, for `makeAvailable`. */
  chain(first: number, ...descriptors: readonly Partial<RawDescriptor>[]): number {
    descriptors.forEach((descriptor, i) => {
      const index = first + i;
      this.ring.setDescriptor(index, link(descriptor, i + 1 < descriptors.length, index + 1));
    });
    return first;
  }

  /**
   * Writes an indirect table at a device address, its entries linked in order, and gives the descriptor that names it.
   */
  table(address: bigint, ...entries: readonly Partial<RawDescriptor>[]): Partial<RawDescriptor> {
    entries.forEach((entry, i) => {
      const at = address + BigInt(i * VRING_DESC.size);
      this.ring.writeDescriptor(at, link(entry, i + 1 < entries.length, i + 1));
    });
    return { address, size: entries.length * VRING_DESC.size, flags: VRING_DESC_F_INDIRECT };
  }

  /** Puts heads into the available ring and publishes the index. */
  makeAvailable(...heads: readonly number[]): void {
    let index = this.ring.availIdx;
    for (const head of heads) {
      this.ring.setAvailableEntry(index, head);
      index = (index + 1) & 0xffff;
    }
    this.ring.availIdx = index;
  }

  /** Used entries that arrived since the last time. */
  takeUsed(): RawUsed[] {
    const taken: RawUsed[] = [];
    while (this.#nextUsed !== this.ring.usedIdx && taken.length < this.ring.size) {
      taken.push(this.ring.usedEntry(this.#nextUsed));
      this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    }
    return taken;
  }
}

function link(descriptor: Partial<RawDescriptor>, more: boolean, next: number): Partial<RawDescriptor> {
  if (!more || descriptor.next !== undefined) return descriptor;
  return { ...descriptor, flags: (descriptor.flags ?? 0) | VRING_DESC_F_NEXT, next };
}
