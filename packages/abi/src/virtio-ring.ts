/** VIRTIO 1.4, split virtqueues (§2.7) and packed virtqueues (§2.8). Header: linux/virtio_ring.h. */
import { type Layout, layout } from './layout.ts';

/** Largest queue, split and packed; a split queue is a power of two besides (§2.7, §2.8). */
export const VIRTQUEUE_SIZE_MAX = 32768;

/** The buffer continues in `next` (§2.7.5). */
export const VRING_DESC_F_NEXT = 1;
/** The buffer is device-writable (§2.7.5). */
export const VRING_DESC_F_WRITE = 2;
/** The buffer holds a table of descriptors (§2.7.5.3). */
export const VRING_DESC_F_INDIRECT = 4;
/** In `avail.flags`: the driver wants no call (§2.7.6, §2.7.7). */
export const VRING_AVAIL_F_NO_INTERRUPT = 1;
/** In `used.flags`: the device wants no kick (§2.7.8, §2.7.10). */
export const VRING_USED_F_NO_NOTIFY = 1;

/** Feature bit number: indirect descriptors (§2.7.5.3, §2.8.7, §6). */
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
/** Feature bit number: `used_event` and `avail_event` (§2.7.7, §2.7.10, §2.8.10, §6). */
export const VIRTIO_RING_F_EVENT_IDX = 29;

/** Alignment of the descriptor table, in bytes (§2.7). */
export const VRING_DESC_ALIGN_SIZE = 16;
/** Alignment of the available ring, in bytes (§2.7). */
export const VRING_AVAIL_ALIGN_SIZE = 2;
/** Alignment of the used ring, in bytes (§2.7). */
export const VRING_USED_ALIGN_SIZE = 4;

const vringDesc = { addr: 'le64', len: 'le32', flags: 'le16', next: 'le16' } as const;
/** §2.7.5, struct virtq_desc. */
export const VRING_DESC: Layout<typeof vringDesc> = layout(16, vringDesc);

const vringAvail = { flags: 'le16', idx: 'le16' } as const;
/** §2.7.6, struct virtq_avail: the words before `ring`, which is le16 × queue size and then `used_event`. */
export const VRING_AVAIL: Layout<typeof vringAvail> = layout(4, vringAvail);

const vringUsed = { flags: 'le16', idx: 'le16' } as const;
/** §2.7.8, struct virtq_used: the words before `ring`, which is `VRING_USED_ELEM` × queue size and then `avail_event`. */
export const VRING_USED: Layout<typeof vringUsed> = layout(4, vringUsed);

const vringUsedElem = { id: 'le32', len: 'le32' } as const;
/** §2.7.8, struct virtq_used_elem. */
export const VRING_USED_ELEM: Layout<typeof vringUsedElem> = layout(8, vringUsedElem);

/** Bytes of one entry of the available ring: a le16 descriptor index (§2.7.6). */
export const VRING_AVAIL_ELEM_SIZE = 2;
/** Bytes of `used_event` and of `avail_event`, which follow the rings whether negotiated or not (§2.7). */
export const VRING_EVENT_SIZE = 2;
/** Offset of the first entry of the available ring (§2.7.6). */
export const VRING_AVAIL_RING_OFFSET: number = VRING_AVAIL.size;
/** Offset of the first entry of the used ring (§2.7.8). */
export const VRING_USED_RING_OFFSET: number = VRING_USED.size;

/** Bytes of the descriptor table of a queue of `queueSize` entries (§2.7). */
export function vringDescSize(queueSize: number): number {
  return VRING_DESC.size * queueSize;
}

/** Offset of `used_event` in the available ring (§2.7.6). */
export function vringUsedEventOffset(queueSize: number): number {
  return VRING_AVAIL_RING_OFFSET + VRING_AVAIL_ELEM_SIZE * queueSize;
}

/** Bytes of the available ring, `used_event` included: 6 + 2n (§2.7). */
export function vringAvailSize(queueSize: number): number {
  return vringUsedEventOffset(queueSize) + VRING_EVENT_SIZE;
}

/** Offset of `avail_event` in the used ring (§2.7.8). */
export function vringAvailEventOffset(queueSize: number): number {
  return VRING_USED_RING_OFFSET + VRING_USED_ELEM.size * queueSize;
}

/** Bytes of the used ring, `avail_event` included: 6 + 8n (§2.7). */
export function vringUsedSize(queueSize: number): number {
  return vringAvailEventOffset(queueSize) + VRING_EVENT_SIZE;
}

/** Packed ring: bit number in `flags` of "made available" (§2.8.1). */
export const VRING_PACKED_DESC_F_AVAIL = 7;
/** Packed ring: bit number in `flags` of "used" (§2.8.1). */
export const VRING_PACKED_DESC_F_USED = 15;
/** Packed event suppression: events on (§2.8.10). */
export const VRING_PACKED_EVENT_FLAG_ENABLE = 0;
/** Packed event suppression: events off (§2.8.10). */
export const VRING_PACKED_EVENT_FLAG_DISABLE = 1;
/** Packed event suppression: event at one descriptor; needs EVENT_IDX (§2.8.10). */
export const VRING_PACKED_EVENT_FLAG_DESC = 2;
/** Packed event suppression: bit number of the wrap counter in `off_wrap` (§2.8.10). */
export const VRING_PACKED_EVENT_F_WRAP_CTR = 15;

/** Alignment of the packed descriptor ring, in bytes (§2.8). */
export const VRING_PACKED_DESC_ALIGN_SIZE = 16;
/** Alignment of either packed event suppression area, in bytes (§2.8). */
export const VRING_PACKED_EVENT_ALIGN_SIZE = 4;

const vringPackedDesc = { addr: 'le64', len: 'le32', id: 'le16', flags: 'le16' } as const;
/** §2.8.13, struct pvirtq_desc. Beware: `id` and `flags` stand where `flags` and `next` stand in a split ring. */
export const VRING_PACKED_DESC: Layout<typeof vringPackedDesc> = layout(16, vringPackedDesc);

const vringPackedDescEvent = { off_wrap: 'le16', flags: 'le16' } as const;
/** §2.8.14, struct pvirtq_event_suppress: the driver area and the device area. */
export const VRING_PACKED_DESC_EVENT: Layout<typeof vringPackedDescEvent> = layout(4, vringPackedDescEvent);

/** Bytes of the descriptor ring of a packed queue of `queueSize` entries (§2.8). */
export function vringPackedDescSize(queueSize: number): number {
  return VRING_PACKED_DESC.size * queueSize;
}
