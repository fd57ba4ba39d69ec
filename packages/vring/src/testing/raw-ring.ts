import {
  VRING_AVAIL,
  VRING_AVAIL_ALIGN_SIZE,
  VRING_AVAIL_ELEM_SIZE,
  VRING_AVAIL_RING_OFFSET,
  VRING_DESC,
  VRING_DESC_ALIGN_SIZE,
  VRING_USED,
  VRING_USED_ALIGN_SIZE,
  VRING_USED_ELEM,
  VRING_USED_RING_OFFSET,
  vringAvailEventOffset,
  vringAvailSize,
  vringDescSize,
  vringUsedEventOffset,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import type { DeviceMemory, MemoryRegion } from '@virtlab/guest-memory';
import type { QueueAddresses } from '../contract.ts';

/** A descriptor as it stands in memory. */
export interface RawDescriptor {
  readonly address: bigint;
  readonly size: number;
  readonly flags: number;
  readonly next: number;
}

export interface RawUsed {
  readonly id: number;
  readonly size: number;
}

/** Finds the bytes behind a device address: at least `size` of them, from `offset` in `region`. */
export type Reach = (
  address: bigint,
  size: number,
) => { readonly region: MemoryRegion; readonly offset: number };

/** Device addresses are `base` plus an offset in one region. */
export function reachRegion(region: MemoryRegion, base: bigint): Reach {
  return (address) => ({ region, offset: Number(address - base) });
}

/** What a device can reach now. Throws `RangeError` for anything else; keeps nothing mapped. */
export function reachDeviceMemory(memory: DeviceMemory): Reach {
  return (address, size) => {
    const area = memory.mapArea(address, size, 1, false);
    if (typeof area === 'number')
      throw new RangeError(`0x${address.toString(16)} cannot be reached: ${area}`);
    memory.unmapArea(area);
    return area;
  };
}

/** Bytes for the three areas of a queue of `size` entries, laid one after the other. */
export function rawRingSize(size: number): number {
  return areaOffsets(size).end;
}

/** Addresses of the three areas laid one after the other from device address `start`, a multiple of 16. */
export function rawRingAddresses(size: number, start: bigint): QueueAddresses {
  const { driver, device } = areaOffsets(size);
  return {
    size,
    descriptorArea: start,
    driverArea: start + BigInt(driver),
    deviceArea: start + BigInt(device),
  };
}

function areaOffsets(size: number): { driver: number; device: number; end: number } {
  const up = (value: number, alignment: number): number => Math.ceil(value / alignment) * alignment;
  const driver = up(vringDescSize(size), VRING_AVAIL_ALIGN_SIZE);
  const device = up(driver + vringAvailSize(size), VRING_USED_ALIGN_SIZE);
  return { driver, device, end: up(device + vringUsedSize(size), VRING_DESC_ALIGN_SIZE) };
}

/** Every word of a split ring by name, readable and writable, with no rule kept: what a hostile party may do. */
export class RawRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly #reach: Reach;
  readonly #available: Bytes;
  readonly #used: Bytes;

  constructor(addresses: QueueAddresses, reach: Reach) {
    this.size = addresses.size;
    this.addresses = addresses;
    this.#reach = reach;
    this.#available = this.#open(addresses.driverArea, vringAvailSize(this.size));
    this.#used = this.#open(addresses.deviceArea, vringUsedSize(this.size));
  }

  get availFlags(): number {
    return get16(this.#available, VRING_AVAIL.offset.flags);
  }
  set availFlags(value: number) {
    set16(this.#available, VRING_AVAIL.offset.flags, value);
  }
  get availIdx(): number {
    return get16(this.#available, VRING_AVAIL.offset.idx);
  }
  set availIdx(value: number) {
    set16(this.#available, VRING_AVAIL.offset.idx, value);
  }
  get usedEvent(): number {
    return get16(this.#available, vringUsedEventOffset(this.size));
  }
  set usedEvent(value: number) {
    set16(this.#available, vringUsedEventOffset(this.size), value);
  }
  get usedFlags(): number {
    return get16(this.#used, VRING_USED.offset.flags);
  }
  set usedFlags(value: number) {
    set16(this.#used, VRING_USED.offset.flags, value);
  }
  get usedIdx(): number {
    return get16(this.#used, VRING_USED.offset.idx);
  }
  set usedIdx(value: number) {
    set16(this.#used, VRING_USED.offset.idx, value);
  }
  get availEvent(): number {
    return get16(this.#used, vringAvailEventOffset(this.size));
  }
  set availEvent(value: number) {
    set16(this.#used, vringAvailEventOffset(this.size), value);
  }

  /** Entry at a free-running index. */
  availableEntry(index: number): number {
    return get16(this.#available, this.#availableAt(index));
  }
  setAvailableEntry(index: number, head: number): void {
    set16(this.#available, this.#availableAt(index), head);
  }
  usedEntry(index: number): RawUsed {
    const { id, len } = VRING_USED_ELEM.read(this.#used.view, this.#used.at + this.#usedAt(index));
    return { id, size: len };
  }
  setUsedEntry(index: number, entry: RawUsed): void {
    VRING_USED_ELEM.write(this.#used.view, this.#used.at + this.#usedAt(index), {
      id: entry.id,
      len: entry.size,
    });
  }

  descriptor(index: number): RawDescriptor {
    return this.readDescriptor(this.addresses.descriptorArea + BigInt(index * VRING_DESC.size));
  }
  setDescriptor(index: number, descriptor: Partial<RawDescriptor>): void {
    this.writeDescriptor(this.addresses.descriptorArea + BigInt(index * VRING_DESC.size), descriptor);
  }

  /** A descriptor at any device address and alignment, for indirect tables. */
  readDescriptor(address: bigint): RawDescriptor {
    const { view, at } = this.#open(address, VRING_DESC.size);
    const { addr, len, flags, next } = VRING_DESC.read(view, at);
    return { address: addr, size: len, flags, next };
  }
  writeDescriptor(
    address: bigint,
    { address: addr = 0n, size = 0, flags = 0, next = 0 }: Partial<RawDescriptor>,
  ): void {
    const { view, at } = this.#open(address, VRING_DESC.size);
    VRING_DESC.write(view, at, { addr, len: size, flags, next });
  }

  /** What the device may have written, to compare. */
  written(): string {
    const entries = Array.from({ length: this.size }, (_, index) => this.usedEntry(index));
    return [this.usedIdx, ...entries.map(({ id, size }) => `${id} ${size}`)].join(', ');
  }

  #availableAt(index: number): number {
    return VRING_AVAIL_RING_OFFSET + (index & (this.size - 1)) * VRING_AVAIL_ELEM_SIZE;
  }
  #usedAt(index: number): number {
    return VRING_USED_RING_OFFSET + (index & (this.size - 1)) * VRING_USED_ELEM.size;
  }
  #open(address: bigint, size: number): Bytes {
    const { region, offset } = this.#reach(address, size);
    return { view: new DataView(region.u8.buffer, region.u8.byteOffset, region.size), at: offset };
  }
}

interface Bytes {
  readonly view: DataView;
  readonly at: number;
}

function get16({ view, at }: Bytes, offset: number): number {
  return view.getUint16(at + offset, true);
}

function set16({ view, at }: Bytes, offset: number, value: number): void {
  view.setUint16(at + offset, value, true);
}
