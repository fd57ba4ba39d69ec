import { VRING_DESC, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT } from '@virtlab/abi/virtio-ring';
import type { RawDescriptor, RawRing } from './raw-ring.ts';

/**
 * A device that writes what a test tells it, right or wrong, for testing a driver half or a whole driver. `ring`
 * reaches every word directly, those that only a driver should write included.
 */
export class ScriptedDevice {
  readonly ring: RawRing;
  #nextAvail: number;

  /** `nextAvail`: where it starts in a ring that had another device before. */
  constructor(ring: RawRing, nextAvail: number = 0) {
    this.ring = ring;
    this.#nextAvail = nextAvail;
  }

  /** Heads made available since the last time. */
  takeAvailable(): number[] {
    const heads: number[] = [];
    while (this.#nextAvail !== this.ring.availIdx && heads.length < this.ring.size) {
      heads.push(this.ring.availableEntry(this.#nextAvail));
      this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    }
    return heads;
  }

  /** The buffers behind a head, an indirect table opened; stops at the queue size. */
  chain(head: number): RawDescriptor[] {
    const found: RawDescriptor[] = [];
    let start = this.ring.addresses.descriptorArea;
    let index = head;
    while (found.length < this.ring.size) {
      const descriptor = this.ring.readDescriptor(start + BigInt(index * VRING_DESC.size));
      if ((descriptor.flags & VRING_DESC_F_INDIRECT) !== 0) {
        start = descriptor.address;
        index = 0;
        continue;
      }
      found.push(descriptor);
      if ((descriptor.flags & VRING_DESC_F_NEXT) === 0) break;
      index = descriptor.next;
    }
    return found;
  }

  /** Writes a used entry at the next place and publishes the index. */
  use(id: number, size: number): void {
    const index = this.ring.usedIdx;
    this.ring.setUsedEntry(index, { id, size });
    this.ring.usedIdx = (index + 1) & 0xffff;
  }
}
