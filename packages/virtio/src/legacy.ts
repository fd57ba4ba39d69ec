/** What is different for a device that is driven through its legacy interface (VIRTIO §2.2.3, §2.7.2, §3.1.2). */
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_VERSION_1, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_PCI_VRING_ALIGN } from '@virtlab/abi/virtio-pci';
import type { DriverTransport } from './contract.ts';

const VERSION_1: FeatureBits = featureBit(VIRTIO_F_VERSION_1);

/** Which kind of driver a device that can be driven both ways has, from its first access to its reset. */
export class LegacyMode {
  readonly #isPossible: boolean;
  #isLegacy = false;

  constructor(isPossible: boolean) {
    this.#isPossible = isPossible;
  }

  /** As `DeviceModel.useLegacy`; `status` is that of the device. */
  use(status: number): boolean {
    if (status === 0) this.#isLegacy = this.#isPossible;
    return this.#isLegacy;
  }

  end(): void {
    this.#isLegacy = false;
  }

  /** What is judged at FEATURES_OK: a legacy driver cannot accept VERSION_1, which is no fault of its. */
  judged(accepted: FeatureBits): FeatureBits {
    return this.#isLegacy ? accepted | VERSION_1 : accepted;
  }
}

/** Without these of a device there is no driver: VERSION_1, but not of a legacy interface, which cannot offer it. */
export function mandatoryFeatures({ capabilities }: DriverTransport): FeatureBits {
  return capabilities.legacy === true ? 0n : VERSION_1;
}

/** How a queue must be made, beyond what the driver likes: of the device's size, and in one piece (§2.7.2, §4.1.5.1.3.1). */
export function queueShape(
  { capabilities }: DriverTransport,
  size: number,
  sizeMax: number,
): { readonly size: number; readonly usedAlignSize?: number } {
  return capabilities.legacy === true ? { size: sizeMax, usedAlignSize: VIRTIO_PCI_VRING_ALIGN } : { size };
}
