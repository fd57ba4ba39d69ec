import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '@virtlab/abi/virtio';
import type { DriverLink } from '@virtlab/virtio';
import type { RawRing } from './raw-ring.ts';

export const STATUS_DRIVER: number = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
export const STATUS_FEATURES_OK: number = STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
export const STATUS_DRIVER_OK: number = STATUS_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

/** Brings a device up to FEATURES_OK, accepting all it offers. */
export async function negotiate({ transport }: DriverLink): Promise<void> {
  await transport.writeStatus(0);
  await transport.writeStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  await transport.writeStatus(STATUS_DRIVER);
  await transport.writeDriverFeatures(await transport.readDeviceFeatures());
  await transport.writeStatus(STATUS_FEATURES_OK);
}

/** Brings a device up to DRIVER_OK with one ring. The ring is the caller's, also when this rejects. */
export async function bringUp(link: DriverLink, ring: RawRing): Promise<void> {
  await negotiate(link);
  await link.transport.enableQueue(0, ring.addresses);
  await link.transport.writeStatus(STATUS_DRIVER_OK);
}
