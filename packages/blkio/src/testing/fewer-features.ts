import type { FeatureBits } from '@virtlab/abi/brands';
import type { VirtioDevice } from '@virtlab/virtio';

/** The device without some of what it offers. */
export function withoutFeatures(device: VirtioDevice, withheld: FeatureBits): VirtioDevice {
  return {
    deviceType: device.deviceType,
    features: device.features & ~withheld,
    queueSizesMax: device.queueSizesMax,
    configSize: device.configSize,
    readConfig: (offset, out) => device.readConfig(offset, out),
    refuseFeatures: (features) => device.refuseFeatures?.(features),
    activate: (activation) => device.activate(activation),
    processQueue: (queue) => device.processQueue(queue),
    reset: () => device.reset(),
  };
}
