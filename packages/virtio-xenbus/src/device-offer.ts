import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTQUEUE_SIZE_MAX } from '@virtlab/abi/virtio-ring';
import {
  VIRTIO_XENBUS_CONFIG_SIZE_MAX,
  VIRTIO_XENBUS_KEY_CONFIG_SIZE,
  VIRTIO_XENBUS_KEY_DEVICE_FEATURES,
  VIRTIO_XENBUS_KEY_DEVICE_QUEUE,
  VIRTIO_XENBUS_KEY_DEVICE_STATUS,
  VIRTIO_XENBUS_KEY_PROFILE,
  VIRTIO_XENBUS_KEY_QUEUE_COUNT,
  VIRTIO_XENBUS_KEY_QUEUE_SIZE_MAX,
  VIRTIO_XENBUS_KEY_TRANSPORT,
  VIRTIO_XENBUS_KEY_TYPE,
  VIRTIO_XENBUS_PROFILE_NATIVE,
  VIRTIO_XENBUS_PROFILE_REGISTER_PAGE,
  VIRTIO_XENBUS_QUEUE_COUNT_MAX,
  VIRTIO_XENBUS_QUEUE_DIR,
  VIRTIO_XENBUS_TRANSPORT,
  VIRTIO_XENBUS_TYPE_PREFIX,
} from '@virtlab/abi/virtio-xenbus';
import { VIRTIO_XENBUS_REGISTER_CONFIG_SIZE_MAX } from '@virtlab/abi/virtio-xenbus-registers';
import type { DeviceModel } from '@virtlab/virtio';
import { type XenbusDevice, type XenbusKeys, formatHex64, quote } from '@virtlab/xenbus';
import { type XenbusProfile, parseProfile } from './profile.ts';
import { nonsense } from './session-parts.ts';
import { NO_STATUS, formatStatusLine } from './status-line.ts';

/** What a native backend says of its device before a driver is there. */
export interface DeviceOffer {
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
export function nativeOfferKeys(model: DeviceModel): XenbusKeys {
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
    ...identityKeys(model, VIRTIO_XENBUS_PROFILE_NATIVE),
    [VIRTIO_XENBUS_KEY_DEVICE_QUEUE]: undefined, // answers of an earlier connection
    [VIRTIO_XENBUS_KEY_DEVICE_FEATURES]: formatHex64(model.deviceFeatures),
    [VIRTIO_XENBUS_KEY_QUEUE_COUNT]: String(queueCount),
    ...Object.fromEntries(queues),
    [VIRTIO_XENBUS_KEY_CONFIG_SIZE]: String(configSize),
    [VIRTIO_XENBUS_KEY_DEVICE_STATUS]: formatStatusLine(NO_STATUS),
  };
}

/** In the register-page profile the rest stands in the registers. Throws `RangeError` as `nativeOfferKeys`. */
export function registerPageOfferKeys(model: DeviceModel): XenbusKeys {
  const { queueCount, configSize } = model;
  if (queueCount > VIRTIO_XENBUS_QUEUE_COUNT_MAX || configSize > VIRTIO_XENBUS_REGISTER_CONFIG_SIZE_MAX) {
    throw new RangeError(
      `${queueCount} queues, ${configSize} bytes of configuration: a register page has at most ` +
        `${VIRTIO_XENBUS_QUEUE_COUNT_MAX} and ${VIRTIO_XENBUS_REGISTER_CONFIG_SIZE_MAX}`,
    );
  }
  return identityKeys(model, VIRTIO_XENBUS_PROFILE_REGISTER_PAGE);
}

function identityKeys({ deviceType }: DeviceModel, profile: XenbusProfile): XenbusKeys {
  return {
    [VIRTIO_XENBUS_KEY_TYPE]: deviceTypeText(deviceType),
    [VIRTIO_XENBUS_KEY_TRANSPORT]: VIRTIO_XENBUS_TRANSPORT,
    [VIRTIO_XENBUS_KEY_PROFILE]: profile,
  };
}

/** What any driver must know first. */
export interface DeviceIdentity {
  readonly deviceType: number;
  readonly profile: XenbusProfile;
}

/** Reads and checks it. Rejects with `XenbusError`, also for another profile than `wanted`. */
export async function readIdentity(
  device: XenbusDevice,
  wanted: XenbusProfile | undefined,
): Promise<DeviceIdentity> {
  const transport = await device.readOtherend(VIRTIO_XENBUS_KEY_TRANSPORT);
  if (transport !== VIRTIO_XENBUS_TRANSPORT) {
    const message = `${quote(transport)} instead of ${VIRTIO_XENBUS_TRANSPORT}`;
    throw nonsense(device, VIRTIO_XENBUS_KEY_TRANSPORT, message);
  }
  const profileText = await device.readOtherend(VIRTIO_XENBUS_KEY_PROFILE);
  const profile = parseProfile(profileText);
  if (profile === undefined || (wanted !== undefined && profile !== wanted)) {
    const message = `${quote(profileText)} instead of ${wanted ?? 'a profile'}`;
    throw nonsense(device, VIRTIO_XENBUS_KEY_PROFILE, message);
  }
  const type = await device.readOtherend(VIRTIO_XENBUS_KEY_TYPE);
  const deviceType = parseDeviceType(type);
  if (deviceType === undefined)
    throw nonsense(device, VIRTIO_XENBUS_KEY_TYPE, `${quote(type)} is no virtio device type`);
  return { deviceType, profile };
}

/** Reads and checks what a native backend offers, as a driver. Rejects with `XenbusError`. */
export async function readNativeOffer(device: XenbusDevice): Promise<DeviceOffer> {
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
  return { features, queueSizesMax, configSize };
}

function sizeMaxKey(queue: number): string {
  return `${VIRTIO_XENBUS_QUEUE_DIR(queue)}/${VIRTIO_XENBUS_KEY_QUEUE_SIZE_MAX}`;
}
