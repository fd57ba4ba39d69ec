import { type DeviceQueue, type QueueAddresses, type RingFeatures, createDeviceQueue } from '@virtlab/vring';
import { IdentityDeviceMemory, type MemoryRegion } from '@virtlab/guest-memory';

/** Entries of the ring unless a workload says otherwise. */
export const RING_SIZE = 256;
/** Bytes of a buffer, or of a transfer. */
export const BUFFER_SIZE = 4;
/** Buffers between two publications of a ring that is kept full. */
export const BATCH_COUNT = 16;

/** The memory that both processes map: a page of doorbell words, then what the driver allocates. */
export const MEMORY_SIZE: number = 8 << 20;
export const CONTROL_SIZE = 4096;
/** Word indices of `notify_me` of either side, in cache lines of their own. */
export const DRIVER_NOTIFY_ME = 0;
export const DEVICE_NOTIFY_ME = 16;

/** Where the processes find what they inherit. */
export const MEMORY_FD = 4;
export const KICK_FD = 5;
export const CALL_FD = 6;

/**
 * What goes through the ring.
 *
 * - `numbers`: the ring is kept full with buffers that alternately carry a number to the device and back; both sides publish in
 *   batches.
 * - `ringtest`: as Linux' ringtest: buffers that nobody touches, each published at once; the driver asks about a kick after
 *   every `batch` and has at most `outstanding` in the ring.
 * - `transfer`: as `vringh_test --parallel`: 4 bytes alternately to the device and back, in one to four buffers, each published
 *   and asked about at once.
 */
export type Workload =
  | { readonly kind: 'numbers' }
  | { readonly kind: 'ringtest'; readonly batch: number; readonly outstanding: number }
  | { readonly kind: 'transfer' };

/**
 * How a side waits: it looks without end; its thread sleeps on the other's eventfd, which is written for each doorbell; or it
 * is on an event loop that sleeps after looking for so many nanoseconds at most.
 */
export type WaitMode =
  | { readonly kind: 'poll' }
  | { readonly kind: 'block' }
  | { readonly kind: 'loop'; readonly spinMaxNs: number };

export interface RingPlan {
  readonly size: number;
  readonly features: RingFeatures;
}

/** The bigints of a queue's addresses as numbers, for a message. */
export interface RingPlace {
  readonly size: number;
  readonly descriptors: number;
  readonly driverArea: number;
  readonly deviceArea: number;
}

export interface Run {
  readonly workload: Workload;
  readonly mode: WaitMode;
  readonly count: number;
}

/** What the driver's process is asked: to make the ring (it answers where), to move so many buffers, to let go of it. */
export type DriverQuestion =
  | { readonly op: 'open'; readonly plan: RingPlan }
  | { readonly op: 'run'; readonly run: Run }
  | { readonly op: 'close' };

/** What the device's process is asked. `start` is answered before the device begins; `stop` once it has ended. */
export type DeviceQuestion =
  | { readonly op: 'open'; readonly plan: RingPlan; readonly place: RingPlace }
  | { readonly op: 'start'; readonly run: Run }
  | { readonly op: 'stop' };

export interface DriverTotals {
  readonly elapsedNs: number;
  readonly kicks: number;
  readonly wakeUps: number;
}

export interface DeviceTotals {
  readonly calls: number;
  readonly wakeUps: number;
}

export function placeOf({ size, descriptorArea, driverArea, deviceArea }: QueueAddresses): RingPlace {
  return {
    size,
    descriptors: Number(descriptorArea),
    driverArea: Number(driverArea),
    deviceArea: Number(deviceArea),
  };
}

/** The device half of the ring at a place in shared memory. Throws if it is refused. */
export function openDeviceQueue(region: MemoryRegion, place: RingPlace, features: RingFeatures): DeviceQueue {
  const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
  const addresses = {
    size: place.size,
    descriptorArea: BigInt(place.descriptors),
    driverArea: BigInt(place.driverArea),
    deviceArea: BigInt(place.deviceArea),
  };
  const made = createDeviceQueue({ addresses, memory, features });
  if (!made.ok) throw new Error(`Device queue refused: ${made.violation.message}`);
  return made.queue;
}
