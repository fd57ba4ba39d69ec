import { VIRTQUEUE_SIZE_MAX } from '@virtlab/abi/virtio-ring';
import type { VirtioDevice } from './contract.ts';
import { ALL_RING_FEATURES, featureNumbers, isDeviceTypeFeature } from './features.ts';

/**
 * A device's own description is its author's to get right. Throws `RangeError` for feature bits that are the
 * transport's or that the ring cannot do, for queue sizes that are neither 0 nor a power of two up to 32768, and for queues that it
 * speaks of and does not have.
 */
export function checkDevice(device: VirtioDevice): void {
  for (const bit of featureNumbers(device.features & ~ALL_RING_FEATURES)) {
    if (!isDeviceTypeFeature(bit)) throw new RangeError(`Feature bit ${bit} is not a device's to offer`);
  }
  for (const size of device.queueSizesMax) {
    const isSize =
      Number.isInteger(size) && size >= 0 && size <= VIRTQUEUE_SIZE_MAX && (size & (size - 1)) === 0;
    if (!isSize)
      throw new RangeError(`Queue size ${size} is not 0 or a power of two up to ${VIRTQUEUE_SIZE_MAX}`);
  }
  for (const queue of device.discardedWhenDisabled ?? []) {
    if (device.queueSizesMax[queue] === undefined)
      throw new RangeError(`Queue ${queue} is discarded when disabled, and does not exist`);
  }
  if (!Number.isInteger(device.configSize) || device.configSize < 0) {
    throw new RangeError(`Configuration size ${device.configSize} is not a number of bytes`);
  }
}
