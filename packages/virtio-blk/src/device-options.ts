import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_LIFETIME,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SECURE_ERASE,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_Z_HM,
} from '@virtlab/abi/virtio-blk';
import { ALL_RING_FEATURES } from '@virtlab/virtio';
import type { BlockBackend } from './backend.ts';
import { VECTOR_COUNT_MAX } from './block-vector.ts';
import { DeviceConfig } from './device-config.ts';
import type { BlkGeometry, BlkTopology } from './disk-shape.ts';
import { BLK_CONFIG_SIZE, type BlkConfig, ZONED_CONFIG_SIZE } from './protocol.ts';

export interface BlkDeviceOptions {
  /** Outlives the device; closed by whoever made it, after the device was reset. */
  readonly backend: BlockBackend;
  /** What GET_ID answers: at most 20 bytes of ASCII. Default empty. */
  readonly serial?: string;
  /** Default 1; more offers VIRTIO_BLK_F_MQ. */
  readonly queueCount?: number;
  /** Largest size of each queue: a power of two. Default 256. */
  readonly queueSize?: number;
  /** Data segments of one request that the driver is told to keep to. Default `queueSize - 2`, at most 254. */
  readonly segMax?: number;
  /** Bytes of one segment that the driver is told to keep to. Default: not offered. */
  readonly sizeMax?: number;
  /** Offers VIRTIO_BLK_F_DISCARD, where the backend is writable. Default true. */
  readonly discard?: boolean;
  /** Sectors in one range of a discard. Default 4,194,303. */
  readonly discardSectorsMax?: number;
  /** Sectors in one range of a write zeroes; bounds how long one request keeps the loop. Default 8192. */
  readonly writeZeroesSectorsMax?: number;
  /** Sectors in one range of a secure erase, which a backend has to be able to. Default as write zeroes, or a zone. */
  readonly secureEraseSectorsMax?: number;
  /** Ranges in one discard, write zeroes or secure erase. Default 16. */
  readonly rangeCountMax?: number;
  /** Cache mode that a driver finds. Default writeback. */
  readonly cache?: 'writeback' | 'writethrough';
  /** Offers VIRTIO_BLK_F_CONFIG_WCE: the driver may switch the cache mode. Default true. */
  readonly cacheToggle?: boolean;
  /** Default: not offered. */
  readonly geometry?: BlkGeometry;
  readonly topology?: BlkTopology;
  /**
   * Requests, and bytes, that are done as one operation when they follow each other on the disk within a batch and the
   * backend can. Default 32 and 1 MiB; one request switches merging off.
   */
  readonly mergeCountMax?: number;
  readonly mergeSizeMax?: number;
  /** Used entries become visible to the driver after this many requests of a batch at the latest. Default 2. */
  readonly publishPeriod?: number;
}

/** The options, checked, in the form the device uses. */
export interface BlkDeviceProfile {
  readonly features: FeatureBits;
  readonly config: DeviceConfig;
  readonly queueSizesMax: readonly number[];
  /** 20 bytes, NUL padded. */
  readonly id: Uint8Array;
  readonly segMax: number;
  readonly sizeMax: number | undefined;
  readonly discardSectorsMax: number;
  readonly writeZeroesSectorsMax: number;
  readonly secureEraseSectorsMax: number;
  readonly rangeCountMax: number;
  readonly mergeCountMax: number;
  readonly mergeSizeMax: number;
  readonly publishPeriod: number;
}

/** §5.2.4: num_queues is a le16; more queues than this are nobody's need. */
const QUEUE_COUNT_MAX = 1024;
/** What QEMU offers with its default queue of 256. */
const SEG_MAX_DEFAULT = 254;
const WORD_MAX = 0xffff_ffff;
const MERGE_SIZE_DEFAULT = 1024 * 1024;
/**
 * A driver that polls refills the queue while the rest of a batch is being served; told at the end only, the two sides take
 * turns. Between processes, at depth 4, publishing two by two does 1.2 to 1.6 times as many requests as publishing sixteen
 * by sixteen. The price is an index store, some 10 ns; the call still comes once, at the end.
 */
const PUBLISH_PERIOD = 2;

type Limits = Pick<
  BlkDeviceProfile,
  | 'segMax'
  | 'sizeMax'
  | 'discardSectorsMax'
  | 'writeZeroesSectorsMax'
  | 'secureEraseSectorsMax'
  | 'rangeCountMax'
>;

/** @throws RangeError naming the option that does not fit its field */
export function resolveDeviceOptions(options: BlkDeviceOptions): BlkDeviceProfile {
  const { backend } = options;
  const queueCount = within('queueCount', options.queueCount ?? 1, 1, QUEUE_COUNT_MAX);
  const queueSize = within('queueSize', options.queueSize ?? 256, 4, 32768);
  const limits = resolveLimits(options, queueSize);
  const fields = configFields(options, limits, queueCount);
  const size = backend.zones === undefined ? BLK_CONFIG_SIZE : ZONED_CONFIG_SIZE;
  return {
    ...limits,
    features: offeredFeatures(options, queueCount),
    config: new DeviceConfig(fields, size),
    queueSizesMax: Array.from({ length: queueCount }, () => queueSize),
    id: encodeId(options.serial ?? ''),
    mergeCountMax: within('mergeCountMax', options.mergeCountMax ?? 32, 1, VECTOR_COUNT_MAX),
    mergeSizeMax: within('mergeSizeMax', options.mergeSizeMax ?? MERGE_SIZE_DEFAULT, 1, WORD_MAX),
    publishPeriod: within('publishPeriod', options.publishPeriod ?? PUBLISH_PERIOD, 1, 32768),
  };
}

function resolveLimits(options: BlkDeviceOptions, queueSize: number): Limits {
  const { sizeMax, backend } = options;
  const segMaxDefault = Math.min(queueSize - 2, SEG_MAX_DEFAULT);
  const zeroesMax = options.writeZeroesSectorsMax ?? 8192;
  const eraseMax =
    options.secureEraseSectorsMax ?? Math.max(zeroesMax, backend.zones?.layout.zoneSectors ?? 0);
  return {
    segMax: within('segMax', options.segMax ?? segMaxDefault, 1, WORD_MAX),
    sizeMax: sizeMax && within('sizeMax', sizeMax, VIRTIO_BLK_SECTOR_SIZE, WORD_MAX),
    discardSectorsMax: within('discardSectorsMax', options.discardSectorsMax ?? 0x3f_ffff, 1, WORD_MAX),
    writeZeroesSectorsMax: within('writeZeroesSectorsMax', zeroesMax, 1, WORD_MAX),
    secureEraseSectorsMax: within('secureEraseSectorsMax', eraseMax, 1, WORD_MAX),
    rangeCountMax: within('rangeCountMax', options.rangeCountMax ?? 16, 1, 256),
  };
}

function configFields(options: BlkDeviceOptions, limits: Limits, queueCount: number): Partial<BlkConfig> {
  const { backend } = options;
  const { readOnly, zones } = backend;
  const mayDiscard = !readOnly && zones?.layout.model !== VIRTIO_BLK_Z_HM;
  const hasErase = !readOnly && backend.secureErase !== undefined;
  const blockSectors = backend.blockSize / VIRTIO_BLK_SECTOR_SIZE;
  return {
    capacity: BigInt(backend.capacitySectors),
    size_max: limits.sizeMax ?? 0,
    seg_max: limits.segMax,
    blk_size: backend.blockSize,
    writeback: options.cache === 'writethrough' ? 0 : 1,
    num_queues: queueCount > 1 ? queueCount : 0,
    ...(options.geometry && geometryFields(options.geometry)),
    ...(options.topology && topologyFields(options.topology)),
    ...(mayDiscard && {
      max_discard_sectors: limits.discardSectorsMax,
      max_discard_seg: limits.rangeCountMax,
      discard_sector_alignment: blockSectors,
      max_write_zeroes_sectors: limits.writeZeroesSectorsMax,
      max_write_zeroes_seg: limits.rangeCountMax,
      write_zeroes_may_unmap: (backend.mayUnmap ?? true) ? 1 : 0,
    }),
    ...(hasErase && {
      max_secure_erase_sectors: limits.secureEraseSectorsMax,
      max_secure_erase_seg: limits.rangeCountMax,
      secure_erase_sector_alignment: zones?.layout.zoneSectors ?? blockSectors,
    }),
    ...(zones !== undefined && zoneFields(zones.layout, limits)),
  };
}

function zoneFields(
  layout: NonNullable<BlockBackend['zones']>['layout'],
  limits: Limits,
): Partial<BlkConfig> {
  // §5.2.5.2: an append must be possible within the limits on segments.
  const segmentSectors = Math.floor((limits.segMax * (limits.sizeMax ?? WORD_MAX)) / VIRTIO_BLK_SECTOR_SIZE);
  if (layout.maxAppendSectors > segmentSectors) {
    throw new RangeError(`maxAppendSectors ${layout.maxAppendSectors} is more than segMax times sizeMax`);
  }
  return {
    zone_sectors: layout.zoneSectors,
    max_open_zones: layout.maxOpenZones,
    max_active_zones: layout.maxActiveZones,
    max_append_sectors: layout.maxAppendSectors,
    write_granularity: layout.writeGranularity,
    model: layout.model,
  };
}

function geometryFields({ cylinders, heads, sectors }: BlkGeometry): Partial<BlkConfig> {
  return {
    cylinders: within('geometry.cylinders', cylinders, 0, 0xffff),
    heads: within('geometry.heads', heads, 0, 0xff),
    sectors: within('geometry.sectors', sectors, 0, 0xff),
  };
}

function topologyFields(topology: BlkTopology): Partial<BlkConfig> {
  return {
    physical_block_exp: within('topology.physicalBlockExp', topology.physicalBlockExp, 0, 31),
    alignment_offset: within('topology.alignmentOffset', topology.alignmentOffset, 0, 0xff),
    min_io_size: within('topology.minIoSize', topology.minIoSize, 0, 0xffff),
    opt_io_size: within('topology.optIoSize', topology.optIoSize, 0, WORD_MAX),
  };
}

/** §5.2.5.2: a host-managed disk offers no discard; zeroes at any place would break its rule, too. */
function offeredFeatures(options: BlkDeviceOptions, queueCount: number): FeatureBits {
  const { backend } = options;
  const { readOnly, zones } = backend;
  const isHostManaged = zones?.layout.model === VIRTIO_BLK_Z_HM;
  const offers: readonly (readonly [boolean, number])[] = [
    [true, VIRTIO_BLK_F_SEG_MAX],
    [true, VIRTIO_BLK_F_BLK_SIZE],
    [true, VIRTIO_BLK_F_FLUSH],
    [options.cacheToggle ?? true, VIRTIO_BLK_F_CONFIG_WCE],
    [options.sizeMax !== undefined, VIRTIO_BLK_F_SIZE_MAX],
    [options.geometry !== undefined, VIRTIO_BLK_F_GEOMETRY],
    [options.topology !== undefined, VIRTIO_BLK_F_TOPOLOGY],
    [queueCount > 1, VIRTIO_BLK_F_MQ],
    [readOnly, VIRTIO_BLK_F_RO],
    [!readOnly && !isHostManaged && (options.discard ?? true), VIRTIO_BLK_F_DISCARD],
    [!readOnly && !isHostManaged, VIRTIO_BLK_F_WRITE_ZEROES],
    [!readOnly && backend.secureErase !== undefined, VIRTIO_BLK_F_SECURE_ERASE],
    [backend.lifetime !== undefined, VIRTIO_BLK_F_LIFETIME],
    [zones !== undefined, VIRTIO_BLK_F_ZONED],
  ];
  const offered = offers.flatMap(([isOffered, feature]) => (isOffered ? [feature] : []));
  return featureBits(...offered) | ALL_RING_FEATURES;
}

function encodeId(serial: string): Uint8Array {
  if (serial.length > VIRTIO_BLK_ID_BYTES || !/^[ -~]*$/.test(serial)) {
    throw new RangeError(
      `serial ${JSON.stringify(serial)} is not at most ${VIRTIO_BLK_ID_BYTES} bytes of ASCII`,
    );
  }
  const id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
  for (let at = 0; at < serial.length; at += 1) id[at] = serial.charCodeAt(at);
  return id;
}

function within(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} ${value} is not an integer from ${min} to ${max}`);
  }
  return value;
}
