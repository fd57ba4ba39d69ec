import {
  type DeviceMemory,
  DMA_OK,
  type DmaStatus,
  IdentityDeviceMemory,
  type MappedArea,
  type MemoryRegion,
  memoryRegion,
  type SegmentList,
} from '@virtlab/guest-memory';
import { CountingDeviceMemory } from '@virtlab/guest-memory/testing';
import type { DeviceQueue, QueueAddresses, QueuePosition, RingFeatures } from '../contract.ts';
import { createDeviceQueue } from '../device-queue.ts';
import { RawPackedRing, rawPackedRingAddresses, rawPackedRingSize } from './packed-raw-ring.ts';
import { PackedScriptedDriver } from './packed-scripted-driver.ts';
import { RawRing, reachRegion, rawRingAddresses, rawRingSize } from './raw-ring.ts';
import { ScriptedDriver } from './scripted-driver.ts';

/** Device address of the rig's first byte: above 4 GiB, so that a lost high word shows. */
const BASE = 0x1_4000_0000n;
const RING_OFFSET = 0x1000;
const PAYLOAD_SIZE = 0x2_0000;

export interface DeviceRigOptions {
  /** Entries; default 8. */
  readonly size?: number;
  readonly features?: Partial<RingFeatures>;
  readonly segmentCountMax?: number;
  /** Mappings break at multiples of this many bytes, as those of scattered pages do; default: never. */
  readonly splitSize?: number;
  readonly start?: QueuePosition;
}

interface RigParts {
  readonly region: MemoryRegion;
  readonly base: bigint;
  readonly memory: CountingDeviceMemory;
  readonly queue: DeviceQueue;
  /** 128 KiB for buffers and tables: device address and offset in `region`. */
  readonly payload: bigint;
  readonly payloadOffset: number;
}

/** A device half with a scripted driver before it and books on its mappings. */
export interface DeviceRig extends RigParts {
  readonly driver: ScriptedDriver;
}
export interface PackedDeviceRig extends RigParts {
  readonly driver: PackedScriptedDriver;
}

/** Makes a rig; the driver has zeroed the areas. Ring memory, and nothing else, precedes the payload. */
export function createDeviceRig(options: DeviceRigOptions = {}): DeviceRig {
  const { size = 8 } = options;
  const addresses = rawRingAddresses(size, BASE + BigInt(RING_OFFSET));
  const parts = assemble(options, addresses, rawRingSize(size), false);
  return { ...parts, driver: new ScriptedDriver(new RawRing(addresses, reachRegion(parts.region, BASE))) };
}

/** The same with a packed ring. */
export function createPackedDeviceRig(options: DeviceRigOptions = {}): PackedDeviceRig {
  const { size = 8 } = options;
  const addresses = rawPackedRingAddresses(size, BASE + BigInt(RING_OFFSET));
  const parts = assemble(options, addresses, rawPackedRingSize(size), true);
  const ring = new RawPackedRing(addresses, reachRegion(parts.region, BASE));
  return { ...parts, driver: new PackedScriptedDriver(ring) };
}

function assemble(
  options: DeviceRigOptions,
  addresses: QueueAddresses,
  ringSize: number,
  packed: boolean,
): RigParts {
  const { splitSize, segmentCountMax, start } = options;
  const features = { indirect: true, eventIdx: false, ...options.features, packed };
  const payloadOffset = Math.ceil((RING_OFFSET + ringSize) / 0x1000) * 0x1000;
  const region = memoryRegion(new ArrayBuffer(payloadOffset + PAYLOAD_SIZE));
  const identity = new IdentityDeviceMemory([{ guestAddress: BASE, region }]);
  const memory = new CountingDeviceMemory(
    splitSize === undefined ? identity : new SplittingMemory(identity, splitSize),
  );
  const made = createDeviceQueue({
    addresses,
    memory,
    features,
    ...(segmentCountMax === undefined ? {} : { segmentCountMax }),
    ...(start === undefined ? {} : { start }),
  });
  if (!made.ok) throw new Error(made.violation.message);
  return {
    region,
    base: BASE,
    memory,
    queue: made.queue,
    payload: BASE + BigInt(payloadOffset),
    payloadOffset,
  };
}

/** Breaks segments at multiples of a size. */
class SplittingMemory implements DeviceMemory {
  readonly #inner: DeviceMemory;
  readonly #splitSize: number;

  constructor(inner: DeviceMemory, splitSize: number) {
    this.#inner = inner;
    this.#splitSize = splitSize;
  }

  get regions(): readonly MemoryRegion[] {
    return this.#inner.regions;
  }

  map(low: number, high: number, size: number, writable: boolean, into: SegmentList): DmaStatus {
    const from = into.count;
    const end = low + size;
    for (let at = low; at < end;) {
      const next = Math.min(end, (Math.floor(at / this.#splitSize) + 1) * this.#splitSize);
      const status = this.#inner.map(at, high, next - at, writable, into);
      if (status !== DMA_OK) {
        this.#inner.unmap(into, from, into.count);
        into.count = from;
        return status;
      }
      at = next;
    }
    return DMA_OK;
  }

  unmap(list: SegmentList, from: number, to: number): void {
    this.#inner.unmap(list, from, to);
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    return this.#inner.mapArea(address, size, alignment, writable);
  }

  unmapArea(area: MappedArea): void {
    this.#inner.unmapArea(area);
  }
}
