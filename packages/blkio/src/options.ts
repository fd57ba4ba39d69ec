import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_SIZE,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { AioContext } from '@virtlab/aio';
import { ALL_RING_FEATURES, RING_FEATURES } from '@virtlab/virtio';
import type { DiskProfile } from '@virtlab/virtio-blk';
import type { BlkioLimits, BlkioOptions } from './contract.ts';
import { BlkioError } from './errors.ts';

const DEVICE_FEATURES: FeatureBits = featureBits(
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
);

export interface ResolvedOptions {
  readonly aio: AioContext;
  readonly queueCount: number;
  readonly queueSize: number;
  readonly queueDepth: number | undefined;
  readonly timeoutMs: number;
  readonly wanted: FeatureBits;
}

/** @throws RangeError naming the option that is out of range */
export function resolveOptions(options: BlkioOptions): ResolvedOptions {
  const { timeoutMs = 30_000, ringFeatures = RING_FEATURES, queueDepth } = options;
  if (!(timeoutMs > 0 && Number.isFinite(timeoutMs)))
    throw new RangeError(`timeoutMs ${timeoutMs} is not positive`);
  if ((ringFeatures & ~ALL_RING_FEATURES) !== 0n)
    throw new RangeError(`ringFeatures 0x${ringFeatures.toString(16)} has features that are not the ring's`);
  return {
    aio: options.aio,
    queueCount: positive('queueCount', options.queueCount ?? 1),
    queueSize: positive('queueSize', options.queueSize ?? 256),
    queueDepth: queueDepth === undefined ? undefined : positive('queueDepth', queueDepth),
    timeoutMs,
    wanted: DEVICE_FEATURES | ringFeatures,
  };
}

function positive(name: string, value: number): number {
  if (Number.isInteger(value) && value > 0) return value;
  throw new RangeError(`${name} ${value} is not a positive integer`);
}

/** Header and status take two of a request's buffers. */
const FRAMING_COUNT = 2;
/** Data buffers of one request; each costs every ring entry 16 bytes of lent memory for its indirect table. */
const SEGMENT_COUNT_MAX = 30;
/** Buffers of one request; what `initializeDevice` is asked for. */
export const BUFFER_COUNT_MAX: number = SEGMENT_COUNT_MAX + FRAMING_COUNT;
/** So that a size is a 31-bit integer; no disk of anybody's takes as much at once. */
const TRANSFER_SIZE_MAX = 2 ** 30;
/** Ring entries of a request with one data buffer, without an indirect table. */
const DIRECT_ENTRY_COUNT = FRAMING_COUNT + 1;

/** Bytes of the zeroes that are written to a disk without write zeroes; each segment of a request is all of it. */
export const ZEROES_SIZE: number = 64 * 1024;

/** Requests in flight on a ring at most. */
export function depthOf(ringSize: number, features: FeatureBits, wanted: number | undefined): number {
  const isIndirect = hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC);
  const room = isIndirect ? ringSize : Math.floor(ringSize / DIRECT_ENTRY_COUNT);
  return Math.min(wanted ?? room, room);
}

/**
 * What the device and its smallest ring allow together.
 *
 * @throws BlkioError `EPROTO` when a request with data does not fit the ring
 */
export function limitsOf(
  profile: DiskProfile,
  features: FeatureBits,
  ringSize: number,
  mappedRegionCountMax: number,
): BlkioLimits {
  if (ringSize <= FRAMING_COUNT)
    throw new BlkioError('EPROTO', `a queue of ${ringSize} entries holds no request`);
  // A chain must not be longer than the queue, be it in a table (§2.7.5.3.1); direct, it shall leave room for others.
  const isIndirect = hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC);
  const room = isIndirect ? ringSize : Math.max(DIRECT_ENTRY_COUNT, Math.floor(ringSize / 4));
  const segmentCountMax = Math.min(profile.segmentCountMax, SEGMENT_COUNT_MAX, room - FRAMING_COUNT);
  const { blockSize } = profile;
  const segmentSizeMax = floorTo(blockSize, Math.min(profile.segmentSizeMax, TRANSFER_SIZE_MAX));
  if (segmentSizeMax === 0)
    throw new BlkioError('EPROTO', `blocks of ${blockSize} bytes, and segments of ${profile.segmentSizeMax}`);
  const transferSizeMax = Math.min(segmentSizeMax * segmentCountMax, TRANSFER_SIZE_MAX);
  const zeroes = floorTo(blockSize, Math.min(ZEROES_SIZE, segmentSizeMax)) * segmentCountMax;
  return {
    requestAlignment: blockSize,
    optimalIoSize: (profile.topology?.optIoSize ?? 0) * blockSize,
    transferSizeMax,
    segmentCountMax,
    segmentSizeMax,
    discardSizeMax: floorTo(blockSize, profile.discard.sectorsMax * VIRTIO_BLK_SECTOR_SIZE),
    discardAlignment: profile.discard.alignmentSectors * VIRTIO_BLK_SECTOR_SIZE,
    writeZeroesSizeMax: floorTo(blockSize, profile.writeZeroes.sectorsMax * VIRTIO_BLK_SECTOR_SIZE) || zeroes,
    mappedRegionCountMax,
  };
}

function floorTo(unit: number, size: number): number {
  return size - (size % unit);
}
