/**
 * virtio over XenBus, register-page profile: the granted page of the 2011 `virtio_xenbus` (Wei Liu, "Porting VirtIO to
 * Xen", xen_virtio.c; legacy virtio-pci header of VIRTIO §4.1.4.10 moved to a page) and, behind the device configuration,
 * the registers that VIRTIO_F_VERSION_1 needs beside it. Document: docs/adr/0009 of virtlab.
 */
import { type Layout, layout } from './layout.ts';

const configPage = {
  config: ['u8', 256],
  write: 'le32',
  size: 'le32',
  offset: 'le32',
  be_active: 'le32',
} as const;
/**
 * `struct virtio_config_page`: one access at a time. The driver fills `write`, `size` (1, 2 or 4), `offset` and, for a write,
 * the bytes at `config[offset]`; sets `be_active`; sends an event. The device carries the access out, leaves what was
 * read at `config[offset]`, and clears `be_active`.
 */
export const VIRTIO_CONFIG_PAGE: Layout<typeof configPage> = layout(272, configPage);

const registers = {
  host_features: 'le32',
  guest_features: 'le32',
  queue_pfn: 'le32',
  queue_num: 'le16',
  queue_sel: 'le16',
  queue_notify: 'le16',
  status: 'u8',
  isr: 'u8',
  config: ['u8', 172],
  abi_version: 'le32',
  host_features_high: 'le32',
  guest_features_high: 'le32',
  config_generation: 'le32',
  queue_count: 'le16',
  config_size: 'le16',
  queue_size: 'le16',
  queue_enable: 'le16',
  queue_desc_low: 'le32',
  queue_desc_high: 'le32',
  queue_driver_low: 'le32',
  queue_driver_high: 'le32',
  queue_device_low: 'le32',
  queue_device_high: 'le32',
  reserved: ['u8', 16],
} as const;
/**
 * What `offset` counts in: up to `config` the registers of 2011 (`VIRTIO_XENBUS_HOST_FEATURES` 0 … `VIRTIO_XENBUS_ISR` 19,
 * `VIRTIO_XENBUS_CONFIG` 20), from `abi_version` on those of virtlab. An access has the width of its register.
 */
export const VIRTIO_XENBUS_REGISTERS: Layout<typeof registers> = layout(256, registers);

/** `abi_version` of devices that have the registers behind it; that of 2011 is 0 and has no such register. */
export const VIRTIO_XENBUS_ABI_VERSION = 1;
/** Ring address = `queue_pfn` << this; here the page number is a grant reference. */
export const VIRTIO_XENBUS_QUEUE_ADDR_SHIFT = 12;
/** Alignment of the used ring in a ring that is given by its page number. */
export const VIRTIO_XENBUS_VRING_ALIGN = 4096;
/** Bit of `isr`: a queue has used buffers. */
export const VIRTIO_XENBUS_ISR_QUEUE = 0x1;
/** Bit of `isr`: the configuration or the status changed. */
export const VIRTIO_XENBUS_ISR_CONFIG = 0x2;
/** Bytes of device configuration space at most. */
export const VIRTIO_XENBUS_REGISTER_CONFIG_SIZE_MAX: number = VIRTIO_XENBUS_REGISTERS.width.config;

/** Frontend: grant reference of the page. */
export const VIRTIO_XENBUS_KEY_PAGE_GREF = 'page-gref';
/** Frontend: port of register accesses. */
export const VIRTIO_XENBUS_KEY_EVENT_CHANNEL = 'event-channel';
/** Frontend: port of the device's interrupt. */
export const VIRTIO_XENBUS_KEY_EVENT_CHANNEL2 = 'event-channel2';
