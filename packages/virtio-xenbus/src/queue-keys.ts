import { type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import {
  VIRTIO_XENBUS_KEY_DEVICE_QUEUE,
  VIRTIO_XENBUS_KEY_DRIVER_QUEUE,
  VIRTIO_XENBUS_KEY_QUEUE_DESCRIPTOR_ADDRESS,
  VIRTIO_XENBUS_KEY_QUEUE_DEVICE_ADDRESS,
  VIRTIO_XENBUS_KEY_QUEUE_DRIVER_ADDRESS,
  VIRTIO_XENBUS_KEY_QUEUE_ENABLED,
  VIRTIO_XENBUS_KEY_QUEUE_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_QUEUE_SIZE,
  VIRTIO_XENBUS_QUEUE_DIR,
} from '@virtlab/abi/virtio-xenbus';
import type { DriverTransport } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError, formatHex64 } from '@virtlab/xenbus';

export type QueueAddresses = Parameters<DriverTransport['enableQueue']>[1];

/** Where a driver put a queue, and the channel of its kicks and calls. */
export interface QueueSetup {
  readonly addresses: QueueAddresses;
  readonly port: EvtchnPort;
}

/** The frontend's key of what it asks of one queue of a live device, and the backend's of the answer. */
export function driverQueueKey(queue: number): string {
  return `${VIRTIO_XENBUS_KEY_DRIVER_QUEUE}/${queue}`;
}
export function deviceQueueKey(queue: number): string {
  return `${VIRTIO_XENBUS_KEY_DEVICE_QUEUE}/${queue}`;
}

const U32_MAX = 0xffff_ffff;

/** The frontend's keys of a queue that it enables. */
export function queueKeys(queue: number, { addresses, port }: QueueSetup): Readonly<Record<string, string>> {
  const directory = VIRTIO_XENBUS_QUEUE_DIR(queue);
  const keys = {
    [VIRTIO_XENBUS_KEY_QUEUE_SIZE]: String(addresses.size),
    [VIRTIO_XENBUS_KEY_QUEUE_DESCRIPTOR_ADDRESS]: formatHex64(addresses.descriptorArea),
    [VIRTIO_XENBUS_KEY_QUEUE_DRIVER_ADDRESS]: formatHex64(addresses.driverArea),
    [VIRTIO_XENBUS_KEY_QUEUE_DEVICE_ADDRESS]: formatHex64(addresses.deviceArea),
    [VIRTIO_XENBUS_KEY_QUEUE_EVENT_CHANNEL]: String(port),
    [VIRTIO_XENBUS_KEY_QUEUE_ENABLED]: '1',
  };
  return Object.fromEntries(Object.entries(keys).map(([key, value]) => [`${directory}/${key}`, value]));
}

/** Reads them as a backend; undefined where the driver enabled no such queue. Rejects with `XenbusError`. */
export async function readQueueSetup(device: XenbusDevice, queue: number): Promise<QueueSetup | undefined> {
  const directory = VIRTIO_XENBUS_QUEUE_DIR(queue);
  if (!(await isEnabled(device, `${directory}/${VIRTIO_XENBUS_KEY_QUEUE_ENABLED}`))) return undefined;
  const [size, descriptorArea, driverArea, deviceArea, port] = await Promise.all([
    device.readOtherendNumber(`${directory}/${VIRTIO_XENBUS_KEY_QUEUE_SIZE}`, U32_MAX),
    device.readOtherendHex64(`${directory}/${VIRTIO_XENBUS_KEY_QUEUE_DESCRIPTOR_ADDRESS}`),
    device.readOtherendHex64(`${directory}/${VIRTIO_XENBUS_KEY_QUEUE_DRIVER_ADDRESS}`),
    device.readOtherendHex64(`${directory}/${VIRTIO_XENBUS_KEY_QUEUE_DEVICE_ADDRESS}`),
    device.readOtherendNumber(`${directory}/${VIRTIO_XENBUS_KEY_QUEUE_EVENT_CHANNEL}`, U32_MAX),
  ]);
  return { addresses: { size, descriptorArea, driverArea, deviceArea }, port: evtchnPort(port) };
}

async function isEnabled(device: XenbusDevice, key: string): Promise<boolean> {
  try {
    return (await device.readOtherendNumber(key, 1)) === 1;
  } catch (error) {
    if (error instanceof XenbusError && error.code === 'ENOENT') return false;
    throw error;
  }
}
