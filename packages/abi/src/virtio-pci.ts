/**
 * VIRTIO 1.4, virtio over PCI (§4.1). Headers: linux/virtio_pci.h, linux/virtio_ids.h. Field names are those of the
 * specification; Linux calls driver_feature `guest_feature`, queue_driver `queue_avail` and queue_device `queue_used`.
 */
import { type Layout, extend, layout } from './layout.ts';

/** PCI vendor id of every virtio device (§4.1.2). */
export const VIRTIO_PCI_VENDOR_ID = 0x1af4;
/** PCI device id of a modern device: this plus its device type (§4.1.2). */
export const VIRTIO_PCI_DEVICE_ID_BASE = 0x1040;
/** Lowest PCI revision of a non-transitional device (§4.1.2.1). */
export const VIRTIO_PCI_REVISION_MIN = 1;
/** Lowest subsystem device id of a non-transitional device (§4.1.2.1). */
export const VIRTIO_PCI_SUBSYSTEM_ID_MIN = 0x40;

/** PCI device id of a transitional network device (§4.1.2). */
export const VIRTIO_TRANS_ID_NET = 0x1000;
/** PCI device id of a transitional block device (§4.1.2). */
export const VIRTIO_TRANS_ID_BLOCK = 0x1001;
/** PCI device id of a transitional memory balloon (§4.1.2). */
export const VIRTIO_TRANS_ID_BALLOON = 0x1002;
/** PCI device id of a transitional console (§4.1.2). */
export const VIRTIO_TRANS_ID_CONSOLE = 0x1003;
/** PCI device id of a transitional SCSI host (§4.1.2). */
export const VIRTIO_TRANS_ID_SCSI = 0x1004;
/** PCI device id of a transitional entropy source (§4.1.2). */
export const VIRTIO_TRANS_ID_RNG = 0x1005;
/** PCI device id of a transitional 9P transport (§4.1.2). */
export const VIRTIO_TRANS_ID_9P = 0x1009;

/** cfg_type: common configuration (§4.1.4.3). */
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
/** cfg_type: kicks (§4.1.4.4). */
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
/** cfg_type: ISR status (§4.1.4.5). */
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
/** cfg_type: device-specific configuration (§4.1.4.6). */
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
/** cfg_type: window to the BARs in configuration space (§4.1.4.9). */
export const VIRTIO_PCI_CAP_PCI_CFG = 5;
/** cfg_type: shared memory region (§4.1.4.7). */
export const VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8;
/** cfg_type: vendor-specific data (§4.1.4.8). */
export const VIRTIO_PCI_CAP_VENDOR_CFG = 9;

/** Highest BAR number that a capability may name (§4.1.4). */
export const VIRTIO_PCI_CAP_BAR_MAX = 5;

const virtioPciCap = {
  cap_vndr: 'u8',
  cap_next: 'u8',
  cap_len: 'u8',
  cfg_type: 'u8',
  bar: 'u8',
  id: 'u8',
  padding: ['u8', 2],
  offset: 'le32',
  length: 'le32',
} as const;
/** §4.1.4, struct virtio_pci_cap. */
export const VIRTIO_PCI_CAP: Layout<typeof virtioPciCap> = layout(16, virtioPciCap);

const virtioPciCap64 = { offset_hi: 'le32', length_hi: 'le32' } as const;
/** §4.1.4.7, struct virtio_pci_cap64: the capability of a shared memory region. */
export const VIRTIO_PCI_CAP64: Layout<typeof virtioPciCap & typeof virtioPciCap64> = extend(
  24,
  VIRTIO_PCI_CAP,
  virtioPciCap64,
);

const virtioPciNotifyCap = { notify_off_multiplier: 'le32' } as const;
/** §4.1.4.4, struct virtio_pci_notify_cap: queue address = offset + queue_notify_off × notify_off_multiplier. */
export const VIRTIO_PCI_NOTIFY_CAP: Layout<typeof virtioPciCap & typeof virtioPciNotifyCap> = extend(
  20,
  VIRTIO_PCI_CAP,
  virtioPciNotifyCap,
);

const virtioPciCfgCap = { pci_cfg_data: ['u8', 4] } as const;
/** §4.1.4.9, struct virtio_pci_cfg_cap. */
export const VIRTIO_PCI_CFG_CAP: Layout<typeof virtioPciCap & typeof virtioPciCfgCap> = extend(
  20,
  VIRTIO_PCI_CAP,
  virtioPciCfgCap,
);

const virtioPciCommonCfg = {
  device_feature_select: 'le32',
  device_feature: 'le32',
  driver_feature_select: 'le32',
  driver_feature: 'le32',
  config_msix_vector: 'le16',
  num_queues: 'le16',
  device_status: 'u8',
  config_generation: 'u8',
  queue_select: 'le16',
  queue_size: 'le16',
  queue_msix_vector: 'le16',
  queue_enable: 'le16',
  queue_notify_off: 'le16',
  queue_desc: 'le64',
  queue_driver: 'le64',
  queue_device: 'le64',
  queue_notif_config_data: 'le16',
  queue_reset: 'le16',
  admin_queue_index: 'le16',
  admin_queue_num: 'le16',
} as const;
/** §4.1.4.3, struct virtio_pci_common_cfg as of VIRTIO 1.3. */
export const VIRTIO_PCI_COMMON_CFG: Layout<typeof virtioPciCommonCfg> = layout(64, virtioPciCommonCfg);

/** Bytes of the common configuration in VIRTIO 1.0 and 1.1: up to queue_device (§4.1.4.3). */
export const VIRTIO_PCI_COMMON_CFG_SIZE_1_0: number = VIRTIO_PCI_COMMON_CFG.offset.queue_notif_config_data;
/** Bytes of the common configuration in VIRTIO 1.2: up to queue_reset (§4.1.4.3). */
export const VIRTIO_PCI_COMMON_CFG_SIZE_1_2: number = VIRTIO_PCI_COMMON_CFG.offset.admin_queue_index;

/** Alignment of the common configuration within its BAR, in bytes (§4.1.4.3.1). */
export const VIRTIO_PCI_COMMON_CFG_ALIGN_SIZE = 4;
/** Alignment of the kick area within its BAR, in bytes; with NOTIFICATION_DATA 4 (§4.1.4.4.1). */
export const VIRTIO_PCI_NOTIFY_ALIGN_SIZE = 2;

/** ISR status: a queue has used buffers; reading clears it (§4.1.4.5). */
export const VIRTIO_PCI_ISR_QUEUE = 0x1;
/** ISR status: the configuration changed; reading clears it (§4.1.4.5). */
export const VIRTIO_PCI_ISR_CONFIG = 0x2;
/** "No vector" in config_msix_vector and queue_msix_vector (§4.1.5.1.2). */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;
/** Highest MSI-X table entry that a vector register can name (§4.1.5.1.2). */
export const VIRTIO_MSI_VECTOR_MAX = 0x7ff;

/** Kick with NOTIFICATION_DATA: bits 15:0 are the queue index or its notif_config_data (§2.9, §4.1.5.2). */
export const VIRTIO_NOTIFICATION_VQ_INDEX_MASK = 0xffff;
/** Kick with NOTIFICATION_DATA: shift of next_off, 15 bits (§2.9). */
export const VIRTIO_NOTIFICATION_NEXT_OFF_SHIFT = 16;
/** Kick with NOTIFICATION_DATA: shift of next_wrap; split: bit 15 of the available index (§2.9). */
export const VIRTIO_NOTIFICATION_NEXT_WRAP_SHIFT = 31;

/** Legacy register: device features, le32 read-only (§4.1.4.10). */
export const VIRTIO_PCI_HOST_FEATURES = 0;
/** Legacy register: driver features, le32 (§4.1.4.10). */
export const VIRTIO_PCI_GUEST_FEATURES = 4;
/** Legacy register: page number of the selected queue, le32; 0 disables it (§4.1.4.10). */
export const VIRTIO_PCI_QUEUE_PFN = 8;
/** Legacy register: size of the selected queue, le16 read-only (§4.1.4.10). */
export const VIRTIO_PCI_QUEUE_NUM = 12;
/** Legacy register: queue selector, le16 (§4.1.4.10). */
export const VIRTIO_PCI_QUEUE_SEL = 14;
/** Legacy register: kick, le16 (§4.1.4.10). */
export const VIRTIO_PCI_QUEUE_NOTIFY = 16;
/** Legacy register: device status, u8 (§4.1.4.10). */
export const VIRTIO_PCI_STATUS = 18;
/** Legacy register: ISR status, u8, cleared by reading (§4.1.4.10). */
export const VIRTIO_PCI_ISR = 19;
/** Legacy register, present while MSI-X is enabled: configuration vector, le16 (§4.1.4.10). */
export const VIRTIO_MSI_CONFIG_VECTOR = 20;
/** Legacy register, present while MSI-X is enabled: vector of the selected queue, le16 (§4.1.4.10). */
export const VIRTIO_MSI_QUEUE_VECTOR = 22;
/** Legacy interface version: the PCI revision of a legacy device (§4.1.2.3). */
export const VIRTIO_PCI_ABI_VERSION = 0;
/** Legacy queue address = QUEUE_PFN << this (§4.1.5.1.3.1). */
export const VIRTIO_PCI_QUEUE_ADDR_SHIFT = 12;
/** Legacy alignment of the used ring behind the available ring, in bytes (§2.7.2). */
export const VIRTIO_PCI_VRING_ALIGN = 4096;

/** Legacy offset of the device-specific configuration (§4.1.4.10). */
export function VIRTIO_PCI_CONFIG_OFF(msixEnabled: boolean): number {
  return msixEnabled ? 24 : 20;
}
