/**
 * VIRTIO 1.4, basic facilities: device types (§5), device status (§2.1), reserved feature bits (§6).
 * Headers: linux/virtio_ids.h, linux/virtio_config.h. Feature constants are bit numbers, as in C; `featureBit` makes
 * the mask.
 */
import type { FeatureBits } from './brands.ts';

/** Network device (§5.1). */
export const VIRTIO_ID_NET = 1;
/** Block device (§5.2). */
export const VIRTIO_ID_BLOCK = 2;
/** Console (§5.3). */
export const VIRTIO_ID_CONSOLE = 3;
/** Entropy source (§5.4). */
export const VIRTIO_ID_RNG = 4;
/** Traditional memory balloon (§5.5). */
export const VIRTIO_ID_BALLOON = 5;
/** SCSI host (§5.6). */
export const VIRTIO_ID_SCSI = 8;
/** 9P transport (§5). */
export const VIRTIO_ID_9P = 9;
/** GPU (§5.7). */
export const VIRTIO_ID_GPU = 16;
/** Input device (§5.8). */
export const VIRTIO_ID_INPUT = 18;
/** Socket device (§5.10). */
export const VIRTIO_ID_VSOCK = 19;
/** Crypto device (§5.9). */
export const VIRTIO_ID_CRYPTO = 20;
/** IOMMU (§5.13). */
export const VIRTIO_ID_IOMMU = 23;
/** Memory device (§5.15). */
export const VIRTIO_ID_MEM = 24;
/** Sound device (§5.14). */
export const VIRTIO_ID_SOUND = 25;
/** File system (§5.11). */
export const VIRTIO_ID_FS = 26;
/** Persistent memory (§5.19). */
export const VIRTIO_ID_PMEM = 27;

/** The device was noticed (§2.1). */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 0x01;
/** A driver for the device is known (§2.1). */
export const VIRTIO_CONFIG_S_DRIVER = 0x02;
/** The driver is set up; the device is live (§2.1). */
export const VIRTIO_CONFIG_S_DRIVER_OK = 0x04;
/** Negotiation is complete; reads back clear if the device refuses the subset (§2.1, §2.2). */
export const VIRTIO_CONFIG_S_FEATURES_OK = 0x08;
/** The device is, or is to be, suspended; needs VIRTIO_F_SUSPEND (§2.1, §3.4). */
export const VIRTIO_CONFIG_S_SUSPEND = 0x10;
/** DEVICE_NEEDS_RESET: the device met an error that only a reset ends (§2.1.2). */
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40;
/** The driver gave up (§2.1). */
export const VIRTIO_CONFIG_S_FAILED = 0x80;

/** First feature bit that belongs to the transport and the ring in Linux (linux/virtio_config.h). */
export const VIRTIO_TRANSPORT_F_START = 28;
/** One past the last feature bit of the transport and the ring in Linux 6.1 (linux/virtio_config.h). */
export const VIRTIO_TRANSPORT_F_END = 41;

/** Legacy: call even when calls are suppressed, once all available buffers are used (§6.3). */
export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
/** Legacy: the device takes any descriptor layout (§6.3). */
export const VIRTIO_F_ANY_LAYOUT = 27;
/** The device follows VIRTIO 1.x, not the legacy interface (§6). */
export const VIRTIO_F_VERSION_1 = 32;
/** Device addresses are limited or translated by the platform: the bit for grants (§6). */
export const VIRTIO_F_ACCESS_PLATFORM = 33;
/** Packed virtqueues (§2.8, §6). */
export const VIRTIO_F_RING_PACKED = 34;
/** Buffers are used in the order in which they were made available (§2.7.9, §2.8.8, §6). */
export const VIRTIO_F_IN_ORDER = 35;
/** Memory ordering follows the platform, as for a hardware device (§6). */
export const VIRTIO_F_ORDER_PLATFORM = 36;
/** Single Root I/O Virtualization (§6). */
export const VIRTIO_F_SR_IOV = 37;
/** Kicks carry the ring position (§2.9, §6). */
export const VIRTIO_F_NOTIFICATION_DATA = 38;
/** Kicks carry device-supplied data in place of the queue index (§6). */
export const VIRTIO_F_NOTIF_CONFIG_DATA = 39;
/** One virtqueue can be reset alone (§2.6.1, §6). */
export const VIRTIO_F_RING_RESET = 40;
/** Administration virtqueues (§2.13, §6). */
export const VIRTIO_F_ADMIN_VQ = 41;
/** The device can be suspended (§3.4, §6). */
export const VIRTIO_F_SUSPEND = 43;

/** The mask of one feature: `featureBit(VIRTIO_F_VERSION_1) === 0x1_0000_0000n`. */
export function featureBit(feature: number): FeatureBits {
  return 1n << BigInt(feature);
}

/** The mask of several features, given as bit numbers. */
export function featureBits(...features: readonly number[]): FeatureBits {
  return features.reduce((bits, feature) => bits | featureBit(feature), 0n);
}

/** Whether the feature with this bit number is in the set. */
export function hasFeature(bits: FeatureBits, feature: number): boolean {
  return ((bits >> BigInt(feature)) & 1n) === 1n;
}
