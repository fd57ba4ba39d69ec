/** VIRTIO 1.4, block device (§5.2). Header: linux/virtio_blk.h; zoned parts are newer than Debian 12's copy of it. */
import { type Layout, layout } from './layout.ts';

/** Bytes of the sector that `capacity`, `sector` and `num_sectors` count in, whatever blk_size says (§5.2.4). */
export const VIRTIO_BLK_SECTOR_SIZE = 512;
/** log2 of `VIRTIO_BLK_SECTOR_SIZE` (§5.2.4). */
export const VIRTIO_BLK_SECTOR_SHIFT = 9;

/** Legacy: barriers (§5.2.3.1). */
export const VIRTIO_BLK_F_BARRIER = 0;
/** `size_max` is valid (§5.2.3). */
export const VIRTIO_BLK_F_SIZE_MAX = 1;
/** `seg_max` is valid (§5.2.3). */
export const VIRTIO_BLK_F_SEG_MAX = 2;
/** Disk geometry is valid (§5.2.3). */
export const VIRTIO_BLK_F_GEOMETRY = 4;
/** Read-only (§5.2.3). */
export const VIRTIO_BLK_F_RO = 5;
/** `blk_size` is valid (§5.2.3). */
export const VIRTIO_BLK_F_BLK_SIZE = 6;
/** Legacy: SCSI packet commands (§5.2.3.1). */
export const VIRTIO_BLK_F_SCSI = 7;
/** Cache flush (§5.2.3). */
export const VIRTIO_BLK_F_FLUSH = 9;
/** Topology is valid (§5.2.3). */
export const VIRTIO_BLK_F_TOPOLOGY = 10;
/** The cache mode can be switched through `writeback` (§5.2.3). */
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
/** `num_queues` is valid (§5.2.3). */
export const VIRTIO_BLK_F_MQ = 12;
/** Discard (§5.2.3). */
export const VIRTIO_BLK_F_DISCARD = 13;
/** Write zeroes (§5.2.3). */
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;
/** Lifetime information (§5.2.3). */
export const VIRTIO_BLK_F_LIFETIME = 15;
/** Secure erase (§5.2.3). */
export const VIRTIO_BLK_F_SECURE_ERASE = 16;
/** Zoned device (§5.2.3). */
export const VIRTIO_BLK_F_ZONED = 17;

/** Read (§5.2.6). */
export const VIRTIO_BLK_T_IN = 0;
/** Write (§5.2.6). */
export const VIRTIO_BLK_T_OUT = 1;
/** Legacy: SCSI packet command (§5.2.6.3). */
export const VIRTIO_BLK_T_SCSI_CMD = 2;
/** Flush (§5.2.6). */
export const VIRTIO_BLK_T_FLUSH = 4;
/** Device id string (§5.2.6). */
export const VIRTIO_BLK_T_GET_ID = 8;
/** Lifetime information (§5.2.6). */
export const VIRTIO_BLK_T_GET_LIFETIME = 10;
/** Discard (§5.2.6). */
export const VIRTIO_BLK_T_DISCARD = 11;
/** Write zeroes (§5.2.6). */
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;
/** Secure erase (§5.2.6). */
export const VIRTIO_BLK_T_SECURE_ERASE = 14;
/** Append to a zone (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_APPEND = 15;
/** Report zones (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_REPORT = 16;
/** Open a zone (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_OPEN = 18;
/** Close a zone (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_CLOSE = 20;
/** Finish a zone (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_FINISH = 22;
/** Reset a zone (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_RESET = 24;
/** Reset all zones (§5.2.6). */
export const VIRTIO_BLK_T_ZONE_RESET_ALL = 26;

/** Legacy: bit of the type, a barrier before this request (§5.2.6.3). */
export const VIRTIO_BLK_T_BARRIER = 0x8000_0000;

/** Status: success (§5.2.6). */
export const VIRTIO_BLK_S_OK = 0;
/** Status: device or driver error (§5.2.6). */
export const VIRTIO_BLK_S_IOERR = 1;
/** Status: request unsupported (§5.2.6). */
export const VIRTIO_BLK_S_UNSUPP = 2;
/** Status: zone command invalid (§5.2.6). */
export const VIRTIO_BLK_S_ZONE_INVALID_CMD = 3;
/** Status: not at the write pointer (§5.2.6). */
export const VIRTIO_BLK_S_ZONE_UNALIGNED_WP = 4;
/** Status: too many open zones (§5.2.6). */
export const VIRTIO_BLK_S_ZONE_OPEN_RESOURCE = 5;
/** Status: too many active zones (§5.2.6). */
export const VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE = 6;
/** Bytes of the status that ends every request (§5.2.6). */
export const VIRTIO_BLK_STATUS_SIZE = 1;
/** Bytes of the `append_sector` before the status of VIRTIO_BLK_T_ZONE_APPEND (§5.2.6, struct virtio_blk_req_za). */
export const VIRTIO_BLK_APPEND_SECTOR_SIZE = 8;

/** Bytes of the id of VIRTIO_BLK_T_GET_ID; no NUL if it is full (§5.2.6). */
export const VIRTIO_BLK_ID_BYTES = 20;
/** Segment flag of write zeroes: unmap is allowed (§5.2.6). */
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 0x0000_0001;

/** Lifetime: reserved blocks unknown (§5.2.6). */
export const VIRTIO_BLK_PRE_EOL_INFO_UNDEFINED = 0;
/** Lifetime: normal (§5.2.6). */
export const VIRTIO_BLK_PRE_EOL_INFO_NORMAL = 1;
/** Lifetime: 80 % of the reserved blocks are used (§5.2.6). */
export const VIRTIO_BLK_PRE_EOL_INFO_WARNING = 2;
/** Lifetime: 90 % of the reserved blocks are used (§5.2.6). */
export const VIRTIO_BLK_PRE_EOL_INFO_URGENT = 3;
/** Lifetime: estimates go from 1 (10 % used) to this, which is exceeded; 0 is unknown (§5.2.6). */
export const VIRTIO_BLK_LIFETIME_EST_EXCEEDED = 11;

/** Zoned model: none; behaves as an ordinary device (§5.2.4). */
export const VIRTIO_BLK_Z_NONE = 0;
/** Zoned model: host-managed (§5.2.4). */
export const VIRTIO_BLK_Z_HM = 1;
/** Zoned model: host-aware (§5.2.4). */
export const VIRTIO_BLK_Z_HA = 2;
/** Zone type: conventional (§5.2.6). */
export const VIRTIO_BLK_ZT_CONV = 1;
/** Zone type: sequential write required (§5.2.6). */
export const VIRTIO_BLK_ZT_SWR = 2;
/** Zone type: sequential write preferred (§5.2.6). */
export const VIRTIO_BLK_ZT_SWP = 3;
/** Zone state: no write pointer (§5.2.6). */
export const VIRTIO_BLK_ZS_NOT_WP = 0;
/** Zone state: empty (§5.2.6). */
export const VIRTIO_BLK_ZS_EMPTY = 1;
/** Zone state: implicitly open (§5.2.6). */
export const VIRTIO_BLK_ZS_IOPEN = 2;
/** Zone state: explicitly open (§5.2.6). */
export const VIRTIO_BLK_ZS_EOPEN = 3;
/** Zone state: closed (§5.2.6). */
export const VIRTIO_BLK_ZS_CLOSED = 4;
/** Zone state: read-only (§5.2.6). */
export const VIRTIO_BLK_ZS_RDONLY = 13;
/** Zone state: full (§5.2.6). */
export const VIRTIO_BLK_ZS_FULL = 14;
/** Zone state: offline (§5.2.6). */
export const VIRTIO_BLK_ZS_OFFLINE = 15;

const virtioBlkConfig = {
  capacity: 'le64',
  size_max: 'le32',
  seg_max: 'le32',
  cylinders: 'le16',
  heads: 'u8',
  sectors: 'u8',
  blk_size: 'le32',
  physical_block_exp: 'u8',
  alignment_offset: 'u8',
  min_io_size: 'le16',
  opt_io_size: 'le32',
  writeback: 'u8',
  unused0: 'u8',
  num_queues: 'le16',
  max_discard_sectors: 'le32',
  max_discard_seg: 'le32',
  discard_sector_alignment: 'le32',
  max_write_zeroes_sectors: 'le32',
  max_write_zeroes_seg: 'le32',
  write_zeroes_may_unmap: 'u8',
  unused1: ['u8', 3],
  max_secure_erase_sectors: 'le32',
  max_secure_erase_seg: 'le32',
  secure_erase_sector_alignment: 'le32',
  zone_sectors: 'le32',
  max_open_zones: 'le32',
  max_active_zones: 'le32',
  max_append_sectors: 'le32',
  write_granularity: 'le32',
  model: 'u8',
  unused2: ['u8', 3],
} as const;
/** §5.2.4, struct virtio_blk_config; its inner structs geometry, topology and zoned are flattened. */
export const VIRTIO_BLK_CONFIG: Layout<typeof virtioBlkConfig> = layout(96, virtioBlkConfig);

const virtioBlkOuthdr = { type: 'le32', reserved: 'le32', sector: 'le64' } as const;
/** §5.2.6, struct virtio_blk_req up to its data. Legacy calls `reserved` ioprio. */
export const VIRTIO_BLK_OUTHDR: Layout<typeof virtioBlkOuthdr> = layout(16, virtioBlkOuthdr);

const virtioBlkDiscardWriteZeroes = { sector: 'le64', num_sectors: 'le32', flags: 'le32' } as const;
/** §5.2.6, struct virtio_blk_discard_write_zeroes: one segment of discard, write zeroes or secure erase. */
export const VIRTIO_BLK_DISCARD_WRITE_ZEROES: Layout<typeof virtioBlkDiscardWriteZeroes> = layout(
  16,
  virtioBlkDiscardWriteZeroes,
);

const virtioBlkLifetime = {
  pre_eol_info: 'le16',
  device_lifetime_est_typ_a: 'le16',
  device_lifetime_est_typ_b: 'le16',
} as const;
/** §5.2.6, struct virtio_blk_lifetime. */
export const VIRTIO_BLK_LIFETIME: Layout<typeof virtioBlkLifetime> = layout(6, virtioBlkLifetime);

const virtioBlkZoneReport = { nr_zones: 'le64', reserved: ['u8', 56] } as const;
/** §5.2.6, struct virtio_blk_zone_report up to its descriptors. */
export const VIRTIO_BLK_ZONE_REPORT: Layout<typeof virtioBlkZoneReport> = layout(64, virtioBlkZoneReport);

const virtioBlkZoneDescriptor = {
  z_cap: 'le64',
  z_start: 'le64',
  z_wp: 'le64',
  z_type: 'u8',
  z_state: 'u8',
  reserved: ['u8', 38],
} as const;
/** §5.2.6, struct virtio_blk_zone_descriptor. */
export const VIRTIO_BLK_ZONE_DESCRIPTOR: Layout<typeof virtioBlkZoneDescriptor> = layout(
  64,
  virtioBlkZoneDescriptor,
);
