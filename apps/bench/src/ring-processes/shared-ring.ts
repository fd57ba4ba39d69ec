import type { QueueAddresses } from '@virtlab/vring';

/** Entries of the ring, buffers outstanding at most, and bytes of a buffer. */
export const RING_SIZE = 256;
export const BUFFER_SIZE = 4;
/** Buffers between two publications while there is more to do. */
export const BATCH_COUNT = 16;

/** The memory that both processes map: a page of doorbell words, then what the driver allocates. */
export const MEMORY_SIZE: number = 1 << 20;
export const CONTROL_SIZE = 4096;
/** Word indices of `notify_me` of either side, in cache lines of their own. */
export const DRIVER_NOTIFY_ME = 0;
export const DEVICE_NOTIFY_ME = 16;

/** Where the device process finds what it inherits. */
export const MEMORY_FD = 4;
export const KICK_FD = 5;
export const CALL_FD = 6;

/** EVENT_IDX in all modes, as in Linux' ringtest; polling sides do not look at the events. */
export const FEATURES = { indirect: false, eventIdx: true } as const;

/** How a side waits: it looks without end; or it sleeps, after looking for so many nanoseconds at most. */
export type WaitMode = { readonly kind: 'poll' } | { readonly kind: 'sleep'; readonly spinMaxNs: number };

/** The bigints of a queue's addresses as numbers, for a message. */
export interface RingPlace {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** What the driver asks of the device process. Each is answered; `start` once the device waits for buffers. */
export type DeviceQuestion =
  | { readonly op: 'open'; readonly place: RingPlace }
  | { readonly op: 'start'; readonly mode: WaitMode; readonly count: number }
  | { readonly op: 'stop' };

export interface DeviceTotals {
  readonly calls: number;
  readonly wakeUps: number;
}

export function placeOf({ size, descriptorArea, driverArea, deviceArea }: QueueAddresses): RingPlace {
  return {
    size,
    descriptors: Number(descriptorArea),
    available: Number(driverArea),
    used: Number(deviceArea),
  };
}

export function addressesOf({ size, descriptors, available, used }: RingPlace): QueueAddresses {
  return {
    size,
    descriptorArea: BigInt(descriptors),
    driverArea: BigInt(available),
    deviceArea: BigInt(used),
  };
}
