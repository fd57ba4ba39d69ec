import { VIRTIO_PCI_VRING_ALIGN } from '@virtlab/abi/virtio-pci';
import { vringAvailSize, vringDescSize } from '@virtlab/abi/virtio-ring';
import type { DeviceModel } from '@virtlab/virtio';

type QueueAddresses = Parameters<DeviceModel['enableQueue']>[1];

/** The areas of a legacy queue at `base`: one behind the other, the used ring aligned to 4096 bytes (§2.7.2). */
export function legacyQueueAddresses(base: bigint, size: number): QueueAddresses {
  const driverArea = base + BigInt(vringDescSize(size));
  const align = BigInt(VIRTIO_PCI_VRING_ALIGN);
  const end = driverArea + BigInt(vringAvailSize(size));
  return { size, descriptorArea: base, driverArea, deviceArea: ((end + align - 1n) / align) * align };
}
