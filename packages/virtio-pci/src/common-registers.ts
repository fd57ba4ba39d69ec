import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import { FEATURE_WORD_COUNT, featureWord, withFeatureWord } from './feature-words.ts';
import type { PciDevice } from './pci-device.ts';
import type { AccessWidth } from './pci-function.ts';

export type CommonField = keyof typeof VIRTIO_PCI_COMMON_CFG.fields;
type WideField = 'queue_desc' | 'queue_driver' | 'queue_device';

/**
 * The driver's side of the common configuration structure (§4.1.4.3), each register in its own width (§4.1.3.1).
 * Reads throw `TransportError` `ENODEV` when the function is gone; writes are then lost.
 */
export class CommonRegisters {
  readonly #device: PciDevice;
  readonly #address: number;

  constructor(device: PciDevice, address: number) {
    this.#device = device;
    this.#address = address;
  }

  read(field: Exclude<CommonField, WideField>): number {
    const { offset, width } = VIRTIO_PCI_COMMON_CFG;
    return this.#device.read(this.#address + offset[field], width[field] as AccessWidth);
  }

  write(field: Exclude<CommonField, WideField>, value: number): void {
    const { offset, width } = VIRTIO_PCI_COMMON_CFG;
    this.#device.write(this.#address + offset[field], width[field] as AccessWidth, value);
  }

  /** Low half, then high half. */
  writeWide(field: WideField, value: bigint): void {
    const address = this.#address + VIRTIO_PCI_COMMON_CFG.offset[field];
    this.#device.write(address, 4, Number(BigInt.asUintN(32, value)));
    this.#device.write(address + 4, 4, Number(value >> 32n));
  }

  /** Writes a vector register and answers whether the vector took effect: whether it reads back (§4.1.5.1.2). */
  tryVector(field: 'config_msix_vector' | 'queue_msix_vector', vector: number): boolean {
    this.write(field, vector);
    return this.read(field) === vector;
  }

  readDeviceFeatures(): FeatureBits {
    let features = 0n;
    for (let word = 0; word < FEATURE_WORD_COUNT; word++) {
      this.write('device_feature_select', word);
      features = withFeatureWord(features, word, this.read('device_feature'));
    }
    return features;
  }

  writeDriverFeatures(features: FeatureBits): void {
    for (let word = 0; word < FEATURE_WORD_COUNT; word++) {
      this.write('driver_feature_select', word);
      this.write('driver_feature', featureWord(features, word));
    }
  }
}
