/**
 * virtio over XenBus, native profile: device discovery and negotiation through xenstore keys, one event channel a queue,
 * configuration space in a granted page, rings and buffers as grants (`XEN_GRANT_DMA_ADDR_OFF`). Document:
 * docs/xenstore-paths.md of virtlab.
 */
import { type Layout, layout } from './layout.ts';
import { XEN_PAGE_SIZE } from './xen.ts';

/** Name of the device class, `device/virtio/<id>` and `backend/virtio/<domid>/<id>` (libxl: LIBXL__DEVICE_KIND_VIRTIO). */
export const VIRTIO_XENBUS_KIND = 'virtio';

/** Backend: `virtio,device<id>` with the device id in hex, as libxl's virtio nodes have it. */
export const VIRTIO_XENBUS_KEY_TYPE = 'type';
/** Start of the value of `type`. */
export const VIRTIO_XENBUS_TYPE_PREFIX = 'virtio,device';
/** Backend: name of the transport. */
export const VIRTIO_XENBUS_KEY_TRANSPORT = 'transport';
/** Value of `transport`. */
export const VIRTIO_XENBUS_TRANSPORT = 'xenbus';
/** Backend: which protocol the ends speak. The toolstack's choice; a backend that finds none is native, and says so. */
export const VIRTIO_XENBUS_KEY_PROFILE = 'profile';
/** Value of `profile`. */
export const VIRTIO_XENBUS_PROFILE_NATIVE = 'native';
/** Value of `profile`: see virtio-xenbus-registers. */
export const VIRTIO_XENBUS_PROFILE_REGISTER_PAGE = 'register-page';
/** Backend: features on offer, `0x` and 16 hex digits. */
export const VIRTIO_XENBUS_KEY_DEVICE_FEATURES = 'device-features';
/** Backend: how many queues there are. */
export const VIRTIO_XENBUS_KEY_QUEUE_COUNT = 'queue-count';
/** Backend, below `queue-<n>`: entries at most. */
export const VIRTIO_XENBUS_KEY_QUEUE_SIZE_MAX = 'size-max';
/** Backend: bytes of device configuration space. */
export const VIRTIO_XENBUS_KEY_CONFIG_SIZE = 'config-size';
/** Backend: `<serial> <status>`, the answer to `driver-status` of that serial. */
export const VIRTIO_XENBUS_KEY_DEVICE_STATUS = 'device-status';

/** Frontend: grant reference of the configuration page. */
export const VIRTIO_XENBUS_KEY_CONFIG_REF = 'config-ref';
/** Frontend: port of the configuration channel. */
export const VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL = 'config-event-channel';
/** Frontend: accepted features, as `device-features`. */
export const VIRTIO_XENBUS_KEY_DRIVER_FEATURES = 'driver-features';
/** Frontend: `<serial> <status>`; the serial is different with each write. */
export const VIRTIO_XENBUS_KEY_DRIVER_STATUS = 'driver-status';
/** Frontend, below `queue-<n>`: entries. */
export const VIRTIO_XENBUS_KEY_QUEUE_SIZE = 'size';
/** Frontend, below `queue-<n>`: device address of the descriptor area, `0x` and hex digits. */
export const VIRTIO_XENBUS_KEY_QUEUE_DESCRIPTOR_ADDRESS = 'descriptor-address';
/** Frontend, below `queue-<n>`: device address of the driver area. */
export const VIRTIO_XENBUS_KEY_QUEUE_DRIVER_ADDRESS = 'driver-address';
/** Frontend, below `queue-<n>`: device address of the device area. */
export const VIRTIO_XENBUS_KEY_QUEUE_DEVICE_ADDRESS = 'device-address';
/** Frontend, below `queue-<n>`: port of the queue's channel. */
export const VIRTIO_XENBUS_KEY_QUEUE_EVENT_CHANNEL = 'event-channel';
/** Frontend, below `queue-<n>`: 1 once the keys beside it are complete. */
export const VIRTIO_XENBUS_KEY_QUEUE_ENABLED = 'enabled';

/** Frontend, `driver-queue/<n>`: `<serial> <enabled>`, a request to reset (0) or enable (1) one queue of a live device. */
export const VIRTIO_XENBUS_KEY_DRIVER_QUEUE = 'driver-queue';
/** Backend, `device-queue/<n>`: `<serial> <enabled>`, the answer to `driver-queue/<n>` of that serial. */
export const VIRTIO_XENBUS_KEY_DEVICE_QUEUE = 'device-queue';

/** Start of the name of a queue's directory, in both ends' directories. */
export const VIRTIO_XENBUS_QUEUE_PREFIX = 'queue-';

/** `queue-<n>`. */
export function VIRTIO_XENBUS_QUEUE_DIR(queue: number): string {
  return `${VIRTIO_XENBUS_QUEUE_PREFIX}${queue}`;
}

/** Queues that a device may have at most. */
export const VIRTIO_XENBUS_QUEUE_COUNT_MAX = 1024;

const configPage = {
  generation: 'le32',
  size: 'le32',
  device_status: 'le32',
  write_sequence: 'le32',
  write_acknowledged: 'le32',
  write_offset: 'le32',
  write_size: 'le32',
  reserved0: 'le32',
  write_data: ['u8', 256],
  reserved1: ['u8', 736],
  config: ['u8', 2048],
  reserved2: ['u8', 1024],
} as const;
/**
 * The configuration page, granted by the frontend. `generation` (odd while `config` changes), `size`, `device_status`,
 * `write_acknowledged` and `config` are the backend's to write, the rest the frontend's.
 */
export const VIRTIO_XENBUS_CONFIG_PAGE: Layout<typeof configPage> = layout(XEN_PAGE_SIZE, configPage);
/** Bytes of device configuration space at most. */
export const VIRTIO_XENBUS_CONFIG_SIZE_MAX: number = VIRTIO_XENBUS_CONFIG_PAGE.width.config;
/** Bytes of one write to it through the mailbox at most; longer ones are made in parts. */
export const VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX: number = VIRTIO_XENBUS_CONFIG_PAGE.width.write_data;
