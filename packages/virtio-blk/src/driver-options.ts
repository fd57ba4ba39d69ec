import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
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
  VIRTIO_BLK_SECTOR_SIZE,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { AioContext } from '@virtlab/aio';
import { ALL_RING_FEATURES, RING_FEATURES } from '@virtlab/virtio';
import type { DiskProfile } from './driver-config.ts';
import { BlkError } from './errors.ts';

export interface BlkDriverOptions {
  /** The loop that completions run in and whose clock deadlines follow. */
  readonly aio: AioContext;
  /** Queues to use, if the device has as many; each request goes to the least loaded. Default 1. */
  readonly queueCount?: number;
  /** Entries of each queue at most. A power of two. Default 256. */
  readonly queueSize?: number;
  /** Requests in flight at most, over all queues. Default: as many as the queues have entries. */
  readonly queueDepth?: number;
  /** For each request, and for each control operation. Default 30,000. */
  readonly timeoutMs?: number;
  /** Bytes of one request at most, whatever the device allows. Default 1 MiB. */
  readonly requestSizeMax?: number;
  /** Bytes of each bounce buffer of the promise interface, and their number. Default 64 KiB and 16. */
  readonly bounceSize?: number;
  readonly bounceCount?: number;
  /** Leaves out offered features; `BLK_DRIVER_FEATURES` is the default and the most. */
  readonly wanted?: FeatureBits;
  /** Which of `ALL_RING_FEATURES` to accept. Default those of `wanted`. */
  readonly ringFeatures?: FeatureBits;
  /** Take part in the loop's adaptive polling. Default true. */
  readonly polling?: boolean;
}

/** What the driver can make use of. */
export const BLK_DRIVER_FEATURES: FeatureBits =
  RING_FEATURES |
  featureBits(
    VIRTIO_BLK_F_SIZE_MAX,
    VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_GEOMETRY,
    VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_CONFIG_WCE,
    VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_DISCARD,
    VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_BLK_F_LIFETIME,
    VIRTIO_BLK_F_SECURE_ERASE,
    VIRTIO_BLK_F_ZONED,
  );

export interface ResolvedDriverOptions {
  readonly aio: AioContext;
  readonly queueCount: number;
  readonly queueSize: number;
  readonly queueDepth: number | undefined;
  readonly timeoutMs: number;
  readonly requestSizeMax: number;
  readonly bounceSize: number;
  readonly bounceCount: number;
  readonly wanted: FeatureBits;
  readonly polling: boolean;
}

/** @throws RangeError naming the option that is out of range */
export function resolveDriverOptions(options: BlkDriverOptions): ResolvedDriverOptions {
  const { timeoutMs = 30_000, wanted = BLK_DRIVER_FEATURES } = options;
  if (!(timeoutMs > 0 && Number.isFinite(timeoutMs)))
    throw new RangeError(`timeoutMs ${timeoutMs} is not positive`);
  if ((wanted & ~(BLK_DRIVER_FEATURES | ALL_RING_FEATURES)) !== 0n) {
    throw new RangeError(`wanted 0x${wanted.toString(16)} has features that the driver does not know`);
  }
  const ringFeatures = options.ringFeatures ?? wanted & ALL_RING_FEATURES;
  if ((ringFeatures & ~ALL_RING_FEATURES) !== 0n) {
    throw new RangeError(`ringFeatures 0x${ringFeatures.toString(16)} has features that are not the ring's`);
  }
  const { queueDepth } = options;
  return {
    aio: options.aio,
    queueCount: positive('queueCount', options.queueCount ?? 1),
    queueSize: positive('queueSize', options.queueSize ?? 256),
    queueDepth: queueDepth === undefined ? undefined : positive('queueDepth', queueDepth),
    timeoutMs,
    requestSizeMax: sectors('requestSizeMax', options.requestSizeMax ?? 1024 * 1024),
    bounceSize: sectors('bounceSize', options.bounceSize ?? 64 * 1024),
    bounceCount: positive('bounceCount', options.bounceCount ?? 16),
    wanted: (wanted & ~ALL_RING_FEATURES) | ringFeatures,
    polling: options.polling ?? true,
  };
}

export interface TransferLimits {
  /** Bytes of one buffer of a request. */
  readonly segmentSizeMax: number;
  /** Bytes of one request; whole sectors. */
  readonly transferSizeMax: number;
}

/** Header and status take two of a request's buffers. */
const FRAMING_COUNT = 2;
/**
 * Data buffers of one request. Our buffers are contiguous, so more than one is needed only for a device with a
 * `size_max`; each costs every ring entry 16 bytes of lent memory for its indirect table.
 */
const SEGMENT_COUNT_MAX = 14;
/** Buffers of one request; what `initializeDevice` is asked for. */
export const BUFFER_COUNT_MAX: number = SEGMENT_COUNT_MAX + FRAMING_COUNT;

/**
 * What the device, the ring and the options allow together.
 *
 * @throws BlkError `EPROTO` when a request with data does not fit the ring at all
 */
export function transferLimits(
  profile: DiskProfile,
  features: FeatureBits,
  ringSize: number,
  requestSizeMax: number,
): TransferLimits {
  if (ringSize <= FRAMING_COUNT)
    throw new BlkError('EPROTO', `a queue of ${ringSize} entries holds no request`);
  // An indirect table has room of its own, but a chain must not be longer than the queue (§2.7.5.3.1).
  const ringRoom = ringSize - FRAMING_COUNT;
  const isIndirect = hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC);
  const shared = isIndirect ? ringRoom : Math.min(ringRoom, Math.floor(ringSize / 2));
  const segmentCountMax = Math.min(profile.segmentCountMax, SEGMENT_COUNT_MAX, shared);
  const segmentSizeMax = floorToSector(profile.segmentSizeMax);
  return {
    segmentSizeMax,
    transferSizeMax: floorToSector(Math.min(requestSizeMax, segmentSizeMax * segmentCountMax)),
  };
}

function floorToSector(size: number): number {
  return size - (size % VIRTIO_BLK_SECTOR_SIZE);
}

function positive(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`${name} ${value} is not a positive integer`);
  return value;
}

function sectors(name: string, value: number): number {
  if (positive(name, value) % VIRTIO_BLK_SECTOR_SIZE === 0) return value;
  throw new RangeError(`${name} ${value} is not a whole number of sectors`);
}
