import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import { vringAvailSize, vringDescSize } from '@virtlab/abi/virtio-ring';
import {
  VIRTIO_XENBUS_QUEUE_ADDR_SHIFT,
  VIRTIO_XENBUS_VRING_ALIGN,
} from '@virtlab/abi/virtio-xenbus-registers';
import type { QueueAddresses } from '../queue-keys.ts';

/** The legacy layout of a split ring (VIRTIO §2.7.2): one piece, whose page number says all. */

const SHIFT = BigInt(VIRTIO_XENBUS_QUEUE_ADDR_SHIFT);
const REF_MAX = 0xffff_ffffn;

/** The areas of the ring of `size` entries that begins in the page granted as `ref`. */
export function legacyRing(ref: number, size: number): QueueAddresses {
  const base = XEN_GRANT_DMA_ADDR_OFF | (BigInt(ref) << SHIFT);
  const availOffset = vringDescSize(size);
  const align = VIRTIO_XENBUS_VRING_ALIGN;
  const usedOffset = Math.ceil((availOffset + vringAvailSize(size)) / align) * align;
  return {
    size,
    descriptorArea: base,
    driverArea: base + BigInt(availOffset),
    deviceArea: base + BigInt(usedOffset),
  };
}

/** What `queue_pfn` is for a ring of this layout; 0 for any other. */
export function legacyPageNumber(addresses: QueueAddresses): number {
  const { size, descriptorArea } = addresses;
  const ref = (descriptorArea - XEN_GRANT_DMA_ADDR_OFF) >> SHIFT;
  if (ref <= 0n || ref > REF_MAX) return 0;
  const legacy = legacyRing(Number(ref), size);
  const isLegacy =
    descriptorArea === legacy.descriptorArea &&
    addresses.driverArea === legacy.driverArea &&
    addresses.deviceArea === legacy.deviceArea;
  return isLegacy ? Number(ref) : 0;
}
