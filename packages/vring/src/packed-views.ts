import {
  VIRTQUEUE_SIZE_MAX,
  VRING_PACKED_DESC,
  VRING_PACKED_DESC_EVENT,
  VRING_PACKED_DESC_F_AVAIL,
  VRING_PACKED_DESC_F_USED,
  VRING_PACKED_EVENT_F_WRAP_CTR,
} from '@virtlab/abi/virtio-ring';
import type { AreaStart } from './ring-views.ts';

/** 32-bit words of a descriptor; address and length stand where a split descriptor has them (§2.8.13). */
export const PACKED_WORDS: number = VRING_PACKED_DESC.size / 4;
export const PACKED_LOW: number = VRING_PACKED_DESC.offset.addr / 4;
export const PACKED_HIGH: number = PACKED_LOW + 1;
export const PACKED_LEN: number = VRING_PACKED_DESC.offset.len / 4;
/** `id` is the low half of this word and `flags` the high one: one access takes or publishes both. */
export const PACKED_ID_FLAGS: number = VRING_PACKED_DESC.offset.id / 4;
export const PACKED_FLAGS_SHIFT: number = (VRING_PACKED_DESC.offset.flags - VRING_PACKED_DESC.offset.id) * 8;
export const PACKED_ID_MASK: number = 2 ** PACKED_FLAGS_SHIFT - 1;

/** The two bits of the word above that say whose a descriptor is, as a signed word (§2.8.1). */
export const PACKED_OWNER_BITS: number =
  ((1 << VRING_PACKED_DESC_F_AVAIL) | (1 << VRING_PACKED_DESC_F_USED)) << PACKED_FLAGS_SHIFT;

/** Bits of a descriptor that is available on a lap with this wrap counter: AVAIL as the counter, USED the inverse. */
export function availableBits(wrap: number): number {
  return (1 << (wrap === 1 ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED)) << PACKED_FLAGS_SHIFT;
}

/** Bits of a descriptor that was used on a lap with this wrap counter: both as the counter. */
export function usedBits(wrap: number): number {
  return wrap === 1 ? PACKED_OWNER_BITS : 0;
}

/** A slot and its wrap counter in 16 bits, as event words and vring bases have them (§2.8.14). */
export function packedPosition(slot: number, wrap: number): number {
  return slot | (wrap << VRING_PACKED_EVENT_F_WRAP_CTR);
}

export const POSITION_SLOT_MASK: number = (1 << VRING_PACKED_EVENT_F_WRAP_CTR) - 1;
export const POSITION_WRAP_SHIFT: number = VRING_PACKED_EVENT_F_WRAP_CTR;

/** Slots from one position to another, less than two laps. */
export function slotsBetween(from: number, to: number, size: number): number {
  const slots = (to & POSITION_SLOT_MASK) - (from & POSITION_SLOT_MASK);
  const isSameLap = ((from ^ to) & ~POSITION_SLOT_MASK) === 0;
  if (isSameLap) return slots >= 0 ? slots : slots + 2 * size;
  return slots + size;
}

/** Whether `size` is a legal size of a packed queue: not only powers of two (§2.8). */
export function isPackedQueueSize(size: number): boolean {
  return Number.isInteger(size) && size >= 1 && size <= VIRTQUEUE_SIZE_MAX;
}

/** The ring and the two event words as typed arrays and element indices, computed once. */
export class PackedViews {
  readonly size: number;
  readonly desc32: Int32Array;
  /** Word index of descriptor 0. */
  readonly descBase: number;
  /** What the driver wants of calls: written by the driver (§2.8.10). Offset and wrap in the low half, flags above. */
  readonly driver32: Int32Array;
  readonly driverEvent: number;
  /** What the device wants of kicks: written by the device. */
  readonly device32: Int32Array;
  readonly deviceEvent: number;

  /** Throws `RangeError` when an area's offset does not allow word access: a mapper that misplaced it is a bug of ours. */
  constructor(size: number, descriptors: AreaStart, driver: AreaStart, device: AreaStart) {
    if ((descriptors.offset | driver.offset | device.offset) % VRING_PACKED_DESC_EVENT.size !== 0) {
      throw new RangeError(
        `Areas mapped at ${descriptors.offset}, ${driver.offset}, ${device.offset} are misaligned`,
      );
    }
    this.size = size;
    this.desc32 = descriptors.region.i32;
    this.descBase = descriptors.offset / 4;
    this.driver32 = driver.region.i32;
    this.driverEvent = (driver.offset + VRING_PACKED_DESC_EVENT.offset.off_wrap) / 4;
    this.device32 = device.region.i32;
    this.deviceEvent = (device.offset + VRING_PACKED_DESC_EVENT.offset.off_wrap) / 4;
  }
}
