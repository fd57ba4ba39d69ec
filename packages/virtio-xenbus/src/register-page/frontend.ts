import type { EvtchnPort } from '@virtlab/abi/brands';
import {
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL2,
  VIRTIO_XENBUS_KEY_PAGE_GREF,
} from '@virtlab/abi/virtio-xenbus-registers';
import type { DeviceIdentity } from '../device-offer.ts';
import type { FrontendParts, PreparedFrontend } from '../frontend-parts.ts';
import { grantRefOf } from '../grant-address.ts';
import { DriverRegisterPage } from './driver-register-page.ts';
import { RegisterDriverTransport } from './driver-transport.ts';

/** Register-page profile: the page and two channels are made; what the device is stands in its registers. */
export async function prepareRegisterPage(
  parts: FrontendParts,
  { deviceType }: DeviceIdentity,
): Promise<PreparedFrontend> {
  const { resources, memory, lifeline } = parts;
  const buffer = resources.allocateConfigPage();
  const openPort = (): Promise<EvtchnPort> =>
    lifeline.run('Opening the channels', () => resources.openPort(() => {}));
  const accessPort = await openPort();
  const interruptPort = await openPort();
  return {
    keys: {
      [VIRTIO_XENBUS_KEY_PAGE_GREF]: String(grantRefOf(buffer.addressLow, buffer.addressHigh)),
      [VIRTIO_XENBUS_KEY_EVENT_CHANNEL]: String(accessPort),
      [VIRTIO_XENBUS_KEY_EVENT_CHANNEL2]: String(interruptPort),
    },
    open: async () => {
      const page = new DriverRegisterPage(memory, buffer.offset);
      return await RegisterDriverTransport.open({ ...parts, deviceType, page, accessPort, interruptPort });
    },
  };
}
