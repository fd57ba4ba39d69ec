import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SECURE_ERASE,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_Z_HA,
  VIRTIO_BLK_Z_HM,
} from '@virtlab/abi/virtio-blk';
import type { BlkGeometry, BlkTopology } from './disk-shape.ts';
import { BlkError } from './errors.ts';
import { type BlkConfig, SECTOR_COUNT_MAX, decodeConfig } from './protocol.ts';

/** What the device says of its zones (§5.2.4, struct virtio_blk_zoned_characteristics). */
export interface ZonedProfile {
  readonly model: 'host-managed' | 'host-aware';
  readonly zoneSectors: number;
  /** 0: no limit. */
  readonly maxOpenZones: number;
  readonly maxActiveZones: number;
  /** 0: no appends. */
  readonly maxAppendSectors: number;
  /** Bytes. */
  readonly writeGranularity: number;
}

/** Ranges of one type of request: sectors in one, 0 when the request does not exist, and what their ends align to. */
export interface RangeLimit {
  readonly sectorsMax: number;
  readonly alignmentSectors: number;
}

/** What the device's configuration says, believed only where it makes sense. */
export interface DiskProfile {
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  /** Bytes; power of two from 512 to 64 KiB. */
  readonly blockSize: number;
  /** Queues that can be used: no more than the device serves, or the transport offers. */
  readonly queueCount: number;
  /** Data segments in one request, and bytes in one segment. */
  readonly segmentCountMax: number;
  readonly segmentSizeMax: number;
  readonly discard: RangeLimit;
  readonly writeZeroes: RangeLimit;
  readonly secureErase: RangeLimit;
  readonly geometry: BlkGeometry | undefined;
  readonly topology: BlkTopology | undefined;
  /** §5.2.6.2: a write is durable when it completes. */
  readonly isWriteThrough: boolean;
  readonly zoned: ZonedProfile | undefined;
}

const WORD_MAX = 0xffff_ffff;
const BLOCK_SIZE_MAX = 0x1_0000;
const NO_RANGES: RangeLimit = { sectorsMax: 0, alignmentSectors: 1 };

/**
 * Checks configuration bytes of one generation, once. Limits of 0 mean what Linux' driver takes them for: one segment, of
 * any size (qemu-storage-daemon says so), or any number of sectors; a secure erase without limits does not make sense to it, nor to us.
 * The transport may offer fewer queues (`queueCount`) than the device speaks of.
 *
 * @throws BlkError `EPROTO` naming the field and its value
 */
export function parseDiskProfile(bytes: Uint8Array, features: FeatureBits, queueCount: number): DiskProfile {
  const config = decodeConfig(bytes);
  const has = (feature: number): boolean => hasFeature(features, feature);
  const blockSize = has(VIRTIO_BLK_F_BLK_SIZE) ? config.blk_size : VIRTIO_BLK_SECTOR_SIZE;
  const servedCount = has(VIRTIO_BLK_F_MQ) ? config.num_queues : 1;
  const segmentSizeMax = has(VIRTIO_BLK_F_SIZE_MAX) ? config.size_max || WORD_MAX : WORD_MAX;
  if (config.capacity > BigInt(SECTOR_COUNT_MAX))
    throw nonsense('capacity', `0x${config.capacity.toString(16)}`);
  const isBlock = blockSize >= VIRTIO_BLK_SECTOR_SIZE && blockSize <= BLOCK_SIZE_MAX;
  if (!isBlock || (blockSize & (blockSize - 1)) !== 0) throw nonsense('blk_size', blockSize);
  if (servedCount === 0) throw nonsense('num_queues', servedCount);
  if (segmentSizeMax < VIRTIO_BLK_SECTOR_SIZE) throw nonsense('size_max', segmentSizeMax);
  if (has(VIRTIO_BLK_F_SECURE_ERASE) && config.max_secure_erase_sectors === 0)
    throw nonsense('max_secure_erase_sectors', 0);
  const zoned = has(VIRTIO_BLK_F_ZONED) ? parseZoned(config) : undefined;
  // §5.2.5.1: nothing is discarded on a host-managed disk, whatever it offers.
  const mayDiscard = has(VIRTIO_BLK_F_DISCARD) && zoned?.model !== 'host-managed';
  return {
    capacitySectors: Number(config.capacity),
    readOnly: has(VIRTIO_BLK_F_RO),
    blockSize,
    queueCount: Math.min(servedCount, queueCount),
    segmentCountMax: has(VIRTIO_BLK_F_SEG_MAX) ? config.seg_max || 1 : 1,
    segmentSizeMax,
    discard: mayDiscard ? rangeLimit(config.max_discard_sectors, config.discard_sector_alignment) : NO_RANGES,
    writeZeroes: has(VIRTIO_BLK_F_WRITE_ZEROES) ? rangeLimit(config.max_write_zeroes_sectors, 1) : NO_RANGES,
    secureErase: has(VIRTIO_BLK_F_SECURE_ERASE)
      ? rangeLimit(config.max_secure_erase_sectors, config.secure_erase_sector_alignment)
      : NO_RANGES,
    geometry: has(VIRTIO_BLK_F_GEOMETRY)
      ? { cylinders: config.cylinders, heads: config.heads, sectors: config.sectors }
      : undefined,
    topology: has(VIRTIO_BLK_F_TOPOLOGY) ? topologyOf(config) : undefined,
    isWriteThrough: has(VIRTIO_BLK_F_CONFIG_WCE) ? config.writeback === 0 : !has(VIRTIO_BLK_F_FLUSH),
    zoned,
  };
}

function rangeLimit(sectorsMax: number, alignment: number): RangeLimit {
  return { sectorsMax: sectorsMax || WORD_MAX, alignmentSectors: alignment || 1 };
}

function topologyOf(config: BlkConfig): BlkTopology {
  return {
    physicalBlockExp: config.physical_block_exp,
    alignmentOffset: config.alignment_offset,
    minIoSize: config.min_io_size,
    optIoSize: config.opt_io_size,
  };
}

/** Undefined for a drive-managed disk, which is used like any other (§5.2.4). */
function parseZoned(config: BlkConfig): ZonedProfile | undefined {
  const { model, zone_sectors, write_granularity } = config;
  if (model !== VIRTIO_BLK_Z_HM && model !== VIRTIO_BLK_Z_HA) {
    if (model === 0) return undefined;
    throw nonsense('model', model);
  }
  if (zone_sectors === 0) throw nonsense('zone_sectors', zone_sectors);
  const isGranularity = write_granularity >= VIRTIO_BLK_SECTOR_SIZE && write_granularity <= WORD_MAX;
  if (!isGranularity || write_granularity % VIRTIO_BLK_SECTOR_SIZE !== 0)
    throw nonsense('write_granularity', write_granularity);
  return {
    model: model === VIRTIO_BLK_Z_HM ? 'host-managed' : 'host-aware',
    zoneSectors: zone_sectors,
    maxOpenZones: config.max_open_zones,
    maxActiveZones: config.max_active_zones,
    maxAppendSectors: config.max_append_sectors,
    writeGranularity: write_granularity,
  };
}

function nonsense(field: string, value: number | string): BlkError {
  return new BlkError('EPROTO', `the device's configuration has ${field} ${value}`);
}
