import {
  VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_CONFIG_REF,
} from '@virtlab/abi/virtio-xenbus';
import { TransportError } from '@virtlab/virtio';
import { type DeviceIdentity, readNativeOffer } from './device-offer.ts';
import { DriverConfigPage } from './driver-config-page.ts';
import type { FrontendParts, PreparedFrontend } from './frontend-parts.ts';
import { grantRefOf } from './grant-address.ts';
import { NativeDriverTransport } from './native-driver-transport.ts';

/** Native profile: the offer is read, the configuration page and its channel are made. */
export async function prepareNative(
  parts: FrontendParts,
  { deviceType }: DeviceIdentity,
): Promise<PreparedFrontend> {
  const { device, resources, memory, lifeline } = parts;
  const offer = await lifeline.run('Reading what the backend offers', () => readNativeOffer(device));
  const buffer = resources.allocateConfigPage();
  const configPort = await lifeline.run('Opening the configuration channel', () =>
    resources.openPort(() => {}),
  );
  return {
    keys: {
      [VIRTIO_XENBUS_KEY_CONFIG_REF]: String(grantRefOf(buffer.addressLow, buffer.addressHigh)),
      [VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL]: String(configPort),
    },
    open: async () => {
      const page = new DriverConfigPage(memory, buffer.offset);
      if (page.size !== offer.configSize) {
        const message = `${page.size} bytes of configuration, ${offer.configSize} were offered`;
        throw new TransportError('EPROTO', message);
      }
      const transport = new NativeDriverTransport({ ...parts, deviceType, offer, page, configPort });
      try {
        await lifeline.run('Watching the device', () => transport.start());
        return transport;
      } catch (error) {
        await transport.abandon();
        throw error;
      }
    },
  };
}
