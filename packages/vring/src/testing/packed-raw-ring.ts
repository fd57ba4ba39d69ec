import {
  VRING_PACKED_DESC,
  VRING_PACKED_DESC_EVENT,
  VRING_PACKED_DESC_F_AVAIL,
  VRING_PACKED_DESC_F_USED,
  vringPackedDescSize,
} from '@virtlab/abi/virtio-ring';
import type { QueueAddresses } from '../contract.ts';
import type { Reach } from './raw-ring.ts';

/** A packed descriptor as it stands in memory, available or used. */
export interface RawPackedDescriptor {
  readonly address: bigint;
  readonly size: number;
  readonly id: number;
  readonly flags: number;
}

/** An event suppression area as it stands in memory. */
export interface RawPackedEvent {
  /** Slot in bits 0 to 14, wrap counter in bit 15. */
  readonly offWrap: number;
  readonly flags: number;
}

const AVAIL = 1 << VRING_PACKED_DESC_F_AVAIL;
const USED = 1 << VRING_PACKED_DESC_F_USED;

/** Flags of a descriptor that is available, or used, on a lap with this wrap counter (§2.8.1). */
export function packedAvailableFlags(wrap: number): number {
  return wrap === 1 ? AVAIL : USED;
}
export function packedUsedFlags(wrap: number): number {
  return wrap === 1 ? AVAIL | USED : 0;
}

/** Bytes for the ring and the two event areas of a queue of `size` descriptors, laid one after the other. */
export function rawPackedRingSize(size: number): number {
  return vringPackedDescSize(size) + 2 * VRING_PACKED_DESC_EVENT.size;
}

/** Addresses of the three areas laid one after the other from device address `start`, a multiple of 16. */
export function rawPackedRingAddresses(size: number, start: bigint): QueueAddresses {
  const driverArea = start + BigInt(vringPackedDescSize(size));
  const deviceArea = driverArea + BigInt(VRING_PACKED_DESC_EVENT.size);
  return { size, descriptorArea: start, driverArea, deviceArea };
}

/** Every word of a packed ring by name, readable and writable, with no rule kept: what a hostile party may do. */
export class RawPackedRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly #reach: Reach;

  constructor(addresses: QueueAddresses, reach: Reach) {
    this.size = addresses.size;
    this.addresses = addresses;
    this.#reach = reach;
  }

  get driverEvent(): RawPackedEvent {
    return this.#event(this.addresses.driverArea);
  }
  set driverEvent(event: RawPackedEvent) {
    this.#setEvent(this.addresses.driverArea, event);
  }
  get deviceEvent(): RawPackedEvent {
    return this.#event(this.addresses.deviceArea);
  }
  set deviceEvent(event: RawPackedEvent) {
    this.#setEvent(this.addresses.deviceArea, event);
  }

  descriptor(slot: number): RawPackedDescriptor {
    return this.readDescriptor(this.#slot(slot));
  }
  setDescriptor(slot: number, descriptor: Partial<RawPackedDescriptor>): void {
    this.writeDescriptor(this.#slot(slot), descriptor);
  }

  /** A descriptor at any device address and alignment, for indirect tables. */
  readDescriptor(address: bigint): RawPackedDescriptor {
    const { view, at } = this.#open(address, VRING_PACKED_DESC.size);
    const { addr, len, id, flags } = VRING_PACKED_DESC.read(view, at);
    return { address: addr, size: len, id, flags };
  }
  writeDescriptor(
    address: bigint,
    { address: addr = 0n, size = 0, id = 0, flags = 0 }: Partial<RawPackedDescriptor>,
  ): void {
    const { view, at } = this.#open(address, VRING_PACKED_DESC.size);
    VRING_PACKED_DESC.write(view, at, { addr, len: size, id, flags });
  }

  /** What the device may have written, to compare. */
  written(): string {
    const words = Array.from({ length: this.size }, (_, slot) => {
      const { address, size, id, flags } = this.descriptor(slot);
      return `${address} ${size} ${id} ${flags}`;
    });
    return words.join(', ');
  }

  #slot(slot: number): bigint {
    return this.addresses.descriptorArea + BigInt((slot % this.size) * VRING_PACKED_DESC.size);
  }
  #event(address: bigint): RawPackedEvent {
    const { view, at } = this.#open(address, VRING_PACKED_DESC_EVENT.size);
    const { off_wrap: offWrap, flags } = VRING_PACKED_DESC_EVENT.read(view, at);
    return { offWrap, flags };
  }
  #setEvent(address: bigint, { offWrap, flags }: RawPackedEvent): void {
    const { view, at } = this.#open(address, VRING_PACKED_DESC_EVENT.size);
    VRING_PACKED_DESC_EVENT.write(view, at, { off_wrap: offWrap, flags });
  }
  #open(address: bigint, size: number): { view: DataView; at: number } {
    const { region, offset } = this.#reach(address, size);
    return { view: new DataView(region.u8.buffer, region.u8.byteOffset, region.size), at: offset };
  }
}
