import {
  VRING_AVAIL_ALIGN_SIZE,
  VRING_DESC_ALIGN_SIZE,
  VRING_PACKED_DESC_ALIGN_SIZE,
  VRING_PACKED_DESC_EVENT,
  VRING_PACKED_EVENT_ALIGN_SIZE,
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringPackedDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import type { DeviceMemory, MappedArea } from '@virtlab/guest-memory';
import type {
  DeviceQueue,
  DeviceQueueOptions,
  QueueAddresses,
  QueuePosition,
  RingFeatures,
  RingViolation,
} from './contract.ts';
import { PackedDeviceQueue } from './packed-device-queue.ts';
import { isPackedQueueSize, POSITION_SLOT_MASK, slotsBetween } from './packed-views.ts';
import { isQueueSize } from './ring-views.ts';
import { SplitDeviceQueue } from './split-device-queue.ts';
import { faultText, hex, violation } from './violation.ts';

const SEGMENT_COUNT_MAX_DEFAULT = 1024;

export type DeviceQueueResult =
  | { readonly ok: true; readonly queue: DeviceQueue }
  | { readonly ok: false; readonly violation: RingViolation };

/** An area as it must be mapped. */
interface WantedArea {
  readonly name: string;
  readonly address: bigint;
  readonly size: number;
  readonly alignment: number;
  readonly writable: boolean;
}

/**
 * Maps the areas that the driver named and makes the device half over them, split or packed as `features` say. Whatever
 * is wrong with size, alignment, place or start is the peer's doing and comes back as a value, with nothing left mapped.
 * Throws `RangeError` only for a `segmentCountMax` that is no positive integer.
 */
export function createDeviceQueue(options: DeviceQueueOptions): DeviceQueueResult {
  const { addresses, memory, features, start, segmentCountMax = SEGMENT_COUNT_MAX_DEFAULT } = options;
  if (!Number.isInteger(segmentCountMax) || segmentCountMax < 1) {
    throw new RangeError(`segmentCountMax ${segmentCountMax} is not a positive integer`);
  }
  const packed = features.packed === true;
  const refusal =
    refuseSize(addresses.size, packed) ??
    refuseStart(start, addresses.size, features, takenSlotCount(options));
  if (refusal !== undefined) return { ok: false, violation: refusal };
  const areas: MappedArea[] = [];
  for (const wanted of packed ? packedAreas(addresses) : splitAreas(addresses)) {
    const fault = mapRingArea(memory, areas, wanted, packed ? PACKED_SECTIONS : SPLIT_SECTIONS);
    if (fault === undefined) continue;
    for (const area of areas) memory.unmapArea(area);
    return { ok: false, violation: fault };
  }
  const Half = packed ? PackedDeviceQueue : SplitDeviceQueue;
  return { ok: true, queue: new Half(options, segmentCountMax, areas) };
}

function refuseSize(size: number, packed: boolean): RingViolation | undefined {
  if (packed) {
    if (isPackedQueueSize(size)) return undefined;
    return violation('2.8', `Queue size ${hex(size)} is not within 1 to 0x8000`);
  }
  if (isQueueSize(size)) return undefined;
  return violation('2.7', `Queue size ${hex(size)} is not a power of two of at most 0x8000`);
}

/**
 * Between the two indices lie the requests of a predecessor, at most as many as the ring holds. In order, the first of
 * them would hold back all others for ever.
 */
function refuseStart(
  start: QueuePosition | undefined,
  size: number,
  { packed, inOrder }: RingFeatures,
  takenCount: number,
): RingViolation | undefined {
  const section = packed === true ? '2.8' : '2.7';
  if (start === undefined) {
    return takenCount === 0 ? undefined : violation(section, 'Requests were taken from a ring that is new');
  }
  const { available, used } = start;
  const what = `Start at available ${hex(available)}, used ${hex(used)} of a queue of ${hex(size)}`;
  const isWord = (word: number): boolean => Number.isInteger(word) && word >= 0 && word <= 0xffff;
  if (!isWord(available) || !isWord(used)) return violation(section, `${what} is not two 16-bit words`);
  if (packed === true && Math.max(available & POSITION_SLOT_MASK, used & POSITION_SLOT_MASK) >= size) {
    return violation(section, `${what} is outside the ring`);
  }
  const between = packed === true ? slotsBetween(used, available, size) : (available - used) & 0xffff;
  if (between > size) return violation(section, `${what} has more in flight than the queue holds`);
  if (takenCount > between) return violation(section, `${what} has ${takenCount} taken in between`);
  if (inOrder === true && between !== 0) {
    return violation(section, `${what} has requests in flight that hold back all others (VIRTIO_F_IN_ORDER)`);
  }
  return undefined;
}

/** Ring slots of what a predecessor left unfinished. */
function takenSlotCount({ features, takenChains = [] }: DeviceQueueOptions): number {
  if (features.packed !== true) return takenChains.length;
  return takenChains.reduce((sum, { descriptors = [] }) => sum + descriptors.length, 0);
}

function splitAreas({ size, descriptorArea, driverArea, deviceArea }: QueueAddresses): WantedArea[] {
  return [
    wantedArea('descriptor', descriptorArea, vringDescSize(size), VRING_DESC_ALIGN_SIZE, false),
    wantedArea('driver', driverArea, vringAvailSize(size), VRING_AVAIL_ALIGN_SIZE, false),
    wantedArea('device', deviceArea, vringUsedSize(size), VRING_USED_ALIGN_SIZE, true),
  ];
}

/** The device writes used descriptors over those that the driver made available, so the ring itself is writable. */
function packedAreas({ size, descriptorArea, driverArea, deviceArea }: QueueAddresses): WantedArea[] {
  const eventSize = VRING_PACKED_DESC_EVENT.size;
  return [
    wantedArea('descriptor', descriptorArea, vringPackedDescSize(size), VRING_PACKED_DESC_ALIGN_SIZE, true),
    wantedArea('driver', driverArea, eventSize, VRING_PACKED_EVENT_ALIGN_SIZE, false),
    wantedArea('device', deviceArea, eventSize, VRING_PACKED_EVENT_ALIGN_SIZE, true),
  ];
}

function wantedArea(
  name: string,
  address: bigint,
  size: number,
  alignment: number,
  writable: boolean,
): WantedArea {
  return { name, address, size, alignment, writable };
}

/** Sections on where areas may lie, and on their alignment. */
const SPLIT_SECTIONS = ['2.7', '2.7.1'] as const;
const PACKED_SECTIONS = ['2.8', '2.8.11'] as const;

function mapRingArea(
  memory: DeviceMemory,
  areas: MappedArea[],
  { name, address, size, alignment, writable }: WantedArea,
  [place, aligned]: readonly [string, string],
): RingViolation | undefined {
  const what = `The ${name} area at ${hex(address)}, ${hex(size)} bytes,`;
  if (address < 0n || address >= 1n << 64n) return violation(place, `${what} is no 64-bit address`);
  if (address % BigInt(alignment) !== 0n) {
    return violation(aligned, `${what} is not aligned to ${hex(alignment)}`);
  }
  const mapped = memory.mapArea(address, size, alignment, writable);
  if (typeof mapped === 'number') return violation(place, `${what} ${faultText(mapped)}`);
  areas.push(mapped);
  return undefined;
}
