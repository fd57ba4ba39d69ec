/**
 * The vhost-user protocol. Document: QEMU, docs/interop/vhost-user.rst (its sections are named, not numbered).
 * Integers are in the byte order of the machine, here little-endian.
 */
import { type Layout, extend, layout } from './layout.ts';

/** Virtio feature bit that the back end offers if it has protocol features ("Feature negotiation"). */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;
/** Virtio feature bit: log dirty pages ("Migration"). */
export const VHOST_F_LOG_ALL = 26;

/** Version in `flags` ("Header"). */
export const VHOST_USER_VERSION = 1;
/** Mask of the version in `flags` ("Header"). */
export const VHOST_USER_VERSION_MASK = 0x3;
/** `flags`: this is a reply ("Header"). */
export const VHOST_USER_REPLY_MASK = 0x4;
/** `flags`: the sender wants a reply even if the request has none; needs REPLY_ACK ("Header"). */
export const VHOST_USER_NEED_REPLY_MASK = 0x8;
/** Most file descriptors of one message ("Communication"). */
export const VHOST_USER_MAX_FDS = 8;
/** Most regions of SET_MEM_TABLE ("Memory regions description"). */
export const VHOST_USER_MAX_MEM_REGIONS = 8;
/** Most bytes of device configuration that a message carries (QEMU, VHOST_USER_MAX_CONFIG_SIZE). */
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
/** KICK, CALL and ERR payload: mask of the queue index ("Front-end message types"). */
export const VHOST_USER_VRING_IDX_MASK = 0xff;
/** KICK, CALL, ERR and device state payload: no file descriptor came along ("Front-end message types"). */
export const VHOST_USER_VRING_NOFD_MASK = 0x100;
/** Vring address flag: log writes to the used ring ("Vring address description"). */
export const VHOST_VRING_F_LOG = 0;

const header = { request: 'le32', flags: 'le32', size: 'le32' } as const;
/** "Header": `size` bytes follow. */
export const VHOST_USER_HEADER: Layout<typeof header> = layout(12, header);
const vringState = { index: 'le32', num: 'le32' } as const;
/** "Vring state description". */
export const VHOST_VRING_STATE: Layout<typeof vringState> = layout(8, vringState);
const vringAddr = {
  index: 'le32',
  flags: 'le32',
  desc: 'le64',
  used: 'le64',
  avail: 'le64',
  log: 'le64',
} as const;
/** "Vring address description": beware of the order desc, used, avail. */
export const VHOST_VRING_ADDR: Layout<typeof vringAddr> = layout(40, vringAddr);
const memory = { nregions: 'le32', padding: 'le32' } as const;
/** "Multiple memory regions description" up to its regions. */
export const VHOST_USER_MEMORY: Layout<typeof memory> = layout(8, memory);
const memoryRegion = {
  guest_phys_addr: 'le64',
  memory_size: 'le64',
  userspace_addr: 'le64',
  mmap_offset: 'le64',
} as const;
/** "Memory region description". */
export const VHOST_USER_MEMORY_REGION: Layout<typeof memoryRegion> = layout(32, memoryRegion);
const xenMemoryRegion = { xen_mmap_flags: 'le32', domid: 'le32' } as const;
/** "Memory region description" with XEN_MMAP. */
export const VHOST_USER_XEN_MEMORY_REGION: Layout<typeof memoryRegion & typeof xenMemoryRegion> = extend(
  40,
  VHOST_USER_MEMORY_REGION,
  xenMemoryRegion,
);
/** XEN_MMAP: foreign mapping ("Memory region description"). */
export const VHOST_USER_XEN_MMAP_FOREIGN = 0x1;
/** XEN_MMAP: grant mapping ("Memory region description"). */
export const VHOST_USER_XEN_MMAP_GRANT = 0x2;
/** XEN_MMAP: map only what is used, when it is used ("Memory region description"). */
export const VHOST_USER_XEN_MMAP_NO_ADVANCE_MAP = 0x100;
const config = { offset: 'le32', size: 'le32', flags: 'le32' } as const;
/** "Virtio device config space" up to its bytes. */
export const VHOST_USER_CONFIG: Layout<typeof config> = layout(12, config);
/** Config flag: only fields that the driver may write ("Virtio device config space"). */
export const VHOST_USER_CONFIG_WRITABLE = 0;
/** Config flag: all fields, for migration ("Virtio device config space"). */
export const VHOST_USER_CONFIG_MIGRATION = 1;
const log = { mmap_size: 'le64', mmap_offset: 'le64' } as const;
/** "Log description". */
export const VHOST_USER_LOG: Layout<typeof log> = layout(16, log);
const inflight = { mmap_size: 'le64', mmap_offset: 'le64', num_queues: 'le16', queue_size: 'le16' } as const;
/** "Inflight description": 24 bytes on the wire, C padding included. */
export const VHOST_USER_INFLIGHT: Layout<typeof inflight> = layout(24, inflight);
const iotlb = { iova: 'le64', size: 'le64', user_addr: 'le64', permissions: 'u8', type: 'u8' } as const;
/** "IOTLB message". */
export const VHOST_IOTLB_MSG: Layout<typeof iotlb> = layout(32, iotlb);
/** IOTLB permission: read ("IOTLB message"). */
export const VHOST_ACCESS_RO = 1;
/** IOTLB permission: write ("IOTLB message"). */
export const VHOST_ACCESS_WO = 2;
/** IOTLB permission: read and write ("IOTLB message"). */
export const VHOST_ACCESS_RW = 3;
/** IOTLB type: miss ("IOTLB message"). */
export const VHOST_IOTLB_MISS = 1;
/** IOTLB type: update ("IOTLB message"). */
export const VHOST_IOTLB_UPDATE = 2;
/** IOTLB type: invalidate ("IOTLB message"). */
export const VHOST_IOTLB_INVALIDATE = 3;
/** IOTLB type: access failed ("IOTLB message"). */
export const VHOST_IOTLB_ACCESS_FAIL = 4;

const inflightRegion = {
  features: 'le64',
  version: 'le16',
  desc_num: 'le16',
  last_batch_head: 'le16',
  used_idx: 'le16',
} as const;
/** "Inflight I/O tracking", struct QueueRegionSplit up to its descriptors. */
export const VHOST_USER_INFLIGHT_SPLIT: Layout<typeof inflightRegion> = layout(16, inflightRegion);
const inflightDesc = { inflight: 'u8', padding: ['u8', 5], next: 'le16', counter: 'le64' } as const;
/** "Inflight I/O tracking", struct DescStateSplit. */
export const VHOST_USER_INFLIGHT_DESC_SPLIT: Layout<typeof inflightDesc> = layout(16, inflightDesc);

const inflightPacked = {
  features: 'le64',
  version: 'le16',
  desc_num: 'le16',
  free_head: 'le16',
  old_free_head: 'le16',
  used_idx: 'le16',
  old_used_idx: 'le16',
  used_wrap_counter: 'u8',
  old_used_wrap_counter: 'u8',
  padding: ['u8', 7],
} as const;
/** "Inflight I/O tracking", struct QueueRegionPacked up to its descriptors. */
export const VHOST_USER_INFLIGHT_PACKED: Layout<typeof inflightPacked> = layout(32, inflightPacked);
const inflightDescPacked = {
  inflight: 'u8',
  padding: 'u8',
  next: 'le16',
  last: 'le16',
  num: 'le16',
  counter: 'le64',
  id: 'le16',
  flags: 'le16',
  len: 'le32',
  addr: 'le64',
} as const;
/** "Inflight I/O tracking", struct DescStatePacked. */
export const VHOST_USER_INFLIGHT_DESC_PACKED: Layout<typeof inflightDescPacked> = layout(
  32,
  inflightDescPacked,
);
/** Version of an inflight region that is in use ("Inflight I/O tracking"). */
export const VHOST_USER_INFLIGHT_VERSION = 1;
/** Bytes of guest memory that one bit of the dirty log stands for ("Migration"). */
export const VHOST_LOG_PAGE = 0x1000;
/** Bytes before the region of ADD_MEM_REG and REM_MEM_REG ("Single memory region description"). */
export const VHOST_USER_MEM_REG_PADDING = 8;
const vringArea = { u64: 'le64', size: 'le64', offset: 'le64' } as const;
/** "Vring area description": index and flags in `u64` as in KICK. */
export const VHOST_USER_VRING_AREA: Layout<typeof vringArea> = layout(24, vringArea);
/** Bytes of a UUID ("VhostUserShared"). */
export const VHOST_USER_SHARED_UUID_SIZE = 16;
const transfer = { direction: 'le32', phase: 'le32' } as const;
/** "Device state transfer parameters". */
export const VHOST_USER_TRANSFER_DEVICE_STATE: Layout<typeof transfer> = layout(8, transfer);
/** Transfer direction: from the back end ("Device state transfer parameters"). */
export const VHOST_TRANSFER_STATE_DIRECTION_SAVE = 0;
/** Transfer direction: to the back end ("Device state transfer parameters"). */
export const VHOST_TRANSFER_STATE_DIRECTION_LOAD = 1;
/** Migration phase: the device is suspended ("Device state transfer parameters"). */
export const VHOST_TRANSFER_STATE_PHASE_STOPPED = 0;
const mmap = {
  shmid: 'u8',
  padding: ['u8', 7],
  fd_offset: 'le64',
  shm_offset: 'le64',
  len: 'le64',
  flags: 'le64',
} as const;
/** "MMAP request". */
export const VHOST_USER_MMAP: Layout<typeof mmap> = layout(40, mmap);
/** MMAP flag: pages may be written ("MMAP request"). */
export const VHOST_USER_FLAG_MAP_RW = 1;
/** Sizes in a shared memory configuration ("VIRTIO Shared Memory Region configuration"). */
export const VHOST_USER_SHMEM_REGION_COUNT = 256;
const shmemConfig = { nregions: 'le32', padding: 'le32', memory_sizes: ['le64', 256] } as const;
/** "VIRTIO Shared Memory Region configuration". */
export const VHOST_USER_SHMEM_CONFIG: Layout<typeof shmemConfig> = layout(2056, shmemConfig);

/** Requests of the front end ("Front-end message types"). */
export const VHOST_USER = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
  SET_BACKEND_REQ_FD: 21,
  IOTLB_MSG: 22,
  SET_VRING_ENDIAN: 23,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  CREATE_CRYPTO_SESSION: 26,
  CLOSE_CRYPTO_SESSION: 27,
  POSTCOPY_ADVISE: 28,
  POSTCOPY_LISTEN: 29,
  POSTCOPY_END: 30,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GPU_SET_SOCKET: 33,
  RESET_DEVICE: 34,
  VRING_KICK: 35,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
  GET_SHARED_OBJECT: 41,
  SET_DEVICE_STATE_FD: 42,
  CHECK_DEVICE_STATE: 43,
  GET_SHMEM_CONFIG: 44,
  GET_VRING_BASE_SKIP_DRAIN: 45,
} as const;

/** Name of a front-end request: `VHOST_USER_<name>` in the document. */
export type VhostUserRequest = keyof typeof VHOST_USER;

/** Requests of the back end ("Back-end message types"). */
export const VHOST_USER_BACKEND = {
  IOTLB_MSG: 1,
  CONFIG_CHANGE_MSG: 2,
  VRING_HOST_NOTIFIER_MSG: 3,
  VRING_CALL: 4,
  VRING_ERR: 5,
  SHARED_OBJECT_ADD: 6,
  SHARED_OBJECT_REMOVE: 7,
  SHARED_OBJECT_LOOKUP: 8,
  SHMEM_MAP: 9,
  SHMEM_UNMAP: 10,
} as const;

/** Name of a back-end request: `VHOST_USER_BACKEND_<name>` in the document. */
export type VhostUserBackendRequest = keyof typeof VHOST_USER_BACKEND;

/** Protocol features, as bit numbers ("Protocol features"): `VHOST_USER_PROTOCOL_F_<name>` in the document. */
export const VHOST_USER_PROTOCOL_F = {
  MQ: 0,
  LOG_SHMFD: 1,
  RARP: 2,
  REPLY_ACK: 3,
  MTU: 4,
  BACKEND_REQ: 5,
  CROSS_ENDIAN: 6,
  CRYPTO_SESSION: 7,
  PAGEFAULT: 8,
  CONFIG: 9,
  BACKEND_SEND_FD: 10,
  HOST_NOTIFIER: 11,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  INBAND_NOTIFICATIONS: 14,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
  XEN_MMAP: 17,
  SHARED_OBJECT: 18,
  DEVICE_STATE: 19,
  GET_VRING_BASE_INFLIGHT: 20,
  GPA_ADDRESSES: 21,
  SHMEM: 22,
  GET_VRING_BASE_SKIP_DRAIN: 23,
} as const;

/** Name of a protocol feature. */
export type VhostUserProtocolFeature = keyof typeof VHOST_USER_PROTOCOL_F;
