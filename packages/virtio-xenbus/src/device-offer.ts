import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTQUEUE_SIZE_MAX } from '@virtlab/abi/virtio-ring';
import {
  VIRTIO_XENBUS_CONFIG_SIZE_MAX,
  VIRTIO_XENBUS_KEY_CONFIG_SIZE,
  VIRTIO_XENBUS_KEY_DEVICE_FEATURES,
  VIRTIO_XENBUS_KEY_DEVICE_STATUS,
  VIRTIO_XENBUS_KEY_PROFILE,
  VIRTIO_XENBUS_KEY_QUEUE_COUNT,
  VIRTIO_XENBUS_KEY_QUEUE_SIZE_MAX,
  VIRTIO_XENBUS_KEY_TRANSPORT,
  VIRTIO_XENBUS_KEY_TYPE,
  VIRTIO_XENBUS_PROFILE_NATIVE,
  VIRTIO_XENBUS_QUEUE_COUNT_MAX,
  VIRTIO_XENBUS_QUEUE_DIR,
  VIRTIO_XENBUS_TRANSPORT,
  VIRTIO_XENBUS_TYPE_PREFIX,
} from '@virtlab/abi/virtio-xenbus';
import type { DeviceModel } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError, formatHex64, quote } from '@virtlab/xenbus';
import { NO_STATUS, formatStatusLine } from './status-line.ts';

/** What a backend says of its device before a driver is there. */
export interface DeviceOffer {
  readonly deviceType: number;
  readonly features: FeatureBits;
  /** Its length is the number of queues. */
  readonly queueSizesMax: readonly number[];
  readonly configSize: number;
}

/** `virtio,device<id>`: the value of `type`, for the toolstack too. */
export function deviceTypeText(deviceType: number): string {
  return `${VIRTIO_XENBUS_TYPE_PREFIX}${deviceType.toString(16)}`;
}

/** The device type in such a text, or undefined. */
export function parseDeviceType(text: string): number | undefined {
  const digits = text.startsWith(VIRTIO_XENBUS_TYPE_PREFIX)
    ? text.slice(VIRTIO_XENBUS_TYPE_PREFIX.length)
    : '';
  return /^[0-9a-f]{1,8}$/.test(digits) ? Number.parseInt(digits, 16) : undefined;
}

/** The backend's keys that describe a device. Throws `RangeError` for one that the profile cannot carry. */
export function offerKeys(model: DeviceModel): Readonly<Record<string, string>> {
  const { queueCount, configSize } = model;
  if (queueCount > VIRTIO_XENBUS_QUEUE_COUNT_MAX || configSize > VIRTIO_XENBUS_CONFIG_SIZE_MAX) {
    throw new RangeError(
      `${queueCount} queues, ${configSize} bytes of configuration: at most ` +
        `${VIRTIO_XENBUS_QUEUE_COUNT_MAX} and ${VIRTIO_XENBUS_CONFIG_SIZE_MAX}`,
    );
  }
  const queues = Array.from({ length: queueCount }, (_, queue) => [
    sizeMaxKey(queue),
    `${model.queueSizeMax(queue)}`,
  ]);
  return {
    [VIRTIO_XENBUS_KEY_TYPE]: deviceTypeText(model.deviceType),
    [VIRTIO_XENBUS_KEY_TRANSPORT]: VIRTIO_XENBUS_TRANSPORT,
    [VIRTIO_XENBUS_KEY_PROFILE]: VIRTIO_XENBUS_PROFILE_NATIVE,
    [VIRTIO_XENBUS_KEY_DEVICE_FEATURES]: formatHex64(model.deviceFeatures),
    [VIRTIO_XENBUS_KEY_QUEUE_COUNT]: String(queueCount),
    ...Object.fromEntries(queues),
    [VIRTIO_XENBUS_KEY_CONFIG_SIZE]: String(configSize),
    [VIRTIO_XENBUS_KEY_DEVICE_STATUS]: formatStatusLine(NO_STATUS),
  };
}

/** Reads and checks them as a driver. Rejects with `XenbusError`. */
export async function readOffer(device: XenbusDevice): Promise<DeviceOffer> {
  await requireText(device, VIRTIO_XENBUS_KEY_TRANSPORT, VIRTIO_XENBUS_TRANSPORT);
  await requireText(device, VIRTIO_XENBUS_KEY_PROFILE, VIRTIO_XENBUS_PROFILE_NATIVE);
  const type = await device.readOtherend(VIRTIO_XENBUS_KEY_TYPE);
  const deviceType = parseDeviceType(type);
  if (deviceType === undefined)
    throw nonsense(device, VIRTIO_XENBUS_KEY_TYPE, `${quote(type)} is no virtio device type`);
  const [features, queueCount, configSize] = await Promise.all([
    device.readOtherendHex64(VIRTIO_XENBUS_KEY_DEVICE_FEATURES),
    device.readOtherendNumber(VIRTIO_XENBUS_KEY_QUEUE_COUNT, VIRTIO_XENBUS_QUEUE_COUNT_MAX),
    device.readOtherendNumber(VIRTIO_XENBUS_KEY_CONFIG_SIZE, VIRTIO_XENBUS_CONFIG_SIZE_MAX),
  ]);
  const queueSizesMax = await Promise.all(
    Array.from({ length: queueCount }, (_, queue) =>
      device.readOtherendNumber(sizeMaxKey(queue), VIRTQUEUE_SIZE_MAX),
    ),
  );
  return { deviceType, features, queueSizesMax, configSize };
}

async function requireText(device: XenbusDevice, key: string, wanted: string): Promise<void> {
  const found = await device.readOtherend(key);
  if (found !== wanted) throw nonsense(device, key, `${quote(found)} instead of ${wanted}`);
}

function nonsense(device: XenbusDevice, key: string, message: string): XenbusError {
  return new XenbusError('EINVAL', `${device.otherend}/${key}`, message);
}

function sizeMaxKey(queue: number): string {
  return `${VIRTIO_XENBUS_QUEUE_DIR(queue)}/${VIRTIO_XENBUS_KEY_QUEUE_SIZE_MAX}`;
}
