import {
  VIRTQUEUE_SIZE_MAX,
  VRING_AVAIL,
  VRING_AVAIL_RING_OFFSET,
  VRING_DESC,
  VRING_USED,
  VRING_USED_ELEM,
  VRING_USED_RING_OFFSET,
  vringAvailEventOffset,
  vringUsedEventOffset,
} from '@virtlab/abi/virtio-ring';
import type { MemoryRegion } from '@virtlab/guest-memory';

/** 32-bit words of a descriptor and of a used element; a descriptor's last word holds `flags` and `next` (§2.7.5). */
export const DESC_WORDS: number = VRING_DESC.size / 4;
export const USED_ELEM_WORDS: number = VRING_USED_ELEM.size / 4;
export const DESC_ADDR_LOW: number = VRING_DESC.offset.addr / 4;
export const DESC_ADDR_HIGH: number = DESC_ADDR_LOW + 1;
export const DESC_LEN: number = VRING_DESC.offset.len / 4;
/** `flags` is the low half of this word and `next` the high one, so that one load reads both. */
export const DESC_FLAGS_NEXT: number = VRING_DESC.offset.flags / 4;
export const DESC_NEXT_SHIFT = 16;
export const USED_ELEM_ID: number = VRING_USED_ELEM.offset.id / 4;
export const USED_ELEM_LEN: number = VRING_USED_ELEM.offset.len / 4;

/** Where an area starts. */
export interface AreaStart {
  readonly region: MemoryRegion;
  /** Bytes; a multiple of the area's alignment (§2.7). */
  readonly offset: number;
}

/** Whether `size` is a legal size of a split queue (§2.7). */
export function isQueueSize(size: number): boolean {
  return Number.isInteger(size) && size >= 1 && size <= VIRTQUEUE_SIZE_MAX && (size & (size - 1)) === 0;
}

/**
 * The three areas as typed arrays and element indices, computed once. Little-endian words are read through the
 * machine's own byte order, which is little-endian wherever virtlab runs.
 */
export class RingViews {
  readonly size: number;
  readonly mask: number;
  readonly desc32: Uint32Array;
  /** Word index of descriptor 0. */
  readonly descBase: number;

  readonly avail16: Uint16Array;
  readonly availFlags: number;
  readonly availIdx: number;
  readonly availRing: number;
  readonly usedEvent: number;

  readonly used16: Uint16Array;
  readonly usedFlags: number;
  readonly usedIdx: number;
  readonly availEvent: number;
  readonly used32: Uint32Array;
  /** Word index of used element 0. */
  readonly usedRing: number;

  /** Throws `RangeError` when an area's offset does not allow word access: a mapper that misplaced it is a bug of ours. */
  constructor(size: number, descriptors: AreaStart, available: AreaStart, used: AreaStart) {
    if (descriptors.offset % 4 !== 0 || available.offset % 2 !== 0 || used.offset % 4 !== 0) {
      throw new RangeError(
        `Areas mapped at ${descriptors.offset}, ${available.offset}, ${used.offset} are misaligned`,
      );
    }
    this.size = size;
    this.mask = size - 1;
    this.desc32 = descriptors.region.u32;
    this.descBase = descriptors.offset / 4;

    this.avail16 = available.region.u16;
    this.availFlags = (available.offset + VRING_AVAIL.offset.flags) / 2;
    this.availIdx = (available.offset + VRING_AVAIL.offset.idx) / 2;
    this.availRing = (available.offset + VRING_AVAIL_RING_OFFSET) / 2;
    this.usedEvent = (available.offset + vringUsedEventOffset(size)) / 2;

    this.used16 = used.region.u16;
    this.usedFlags = (used.offset + VRING_USED.offset.flags) / 2;
    this.usedIdx = (used.offset + VRING_USED.offset.idx) / 2;
    this.availEvent = (used.offset + vringAvailEventOffset(size)) / 2;
    this.used32 = used.region.u32;
    this.usedRing = (used.offset + VRING_USED_RING_OFFSET) / 4;
  }
}
