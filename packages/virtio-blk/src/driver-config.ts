import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_SIZE,
} from '@virtlab/abi/virtio-blk';
import { BlkError } from './errors.ts';
import { SECTOR_COUNT_MAX, decodeConfig } from './protocol.ts';

/** What the device's configuration says, believed only where it makes sense. */
export interface DiskProfile {
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  /** Bytes; power of two from 512 to 64 KiB. */
  readonly blockSize: number;
  /** Queues that the device serves. */
  readonly queueCount: number;
  /** Data segments in one request, and bytes in one segment. */
  readonly segmentCountMax: number;
  readonly segmentSizeMax: number;
  /** Sectors in one range; 0 when the request does not exist. */
  readonly discardSectorsMax: number;
  readonly writeZeroesSectorsMax: number;
}

const WORD_MAX = 0xffff_ffff;
const BLOCK_SIZE_MAX = 0x1_0000;

/**
 * Checks configuration bytes of one generation, once. Limits of 0 mean what Linux' driver takes them for: one segment,
 * or any number of sectors.
 *
 * @throws BlkError `EPROTO` naming the field and its value
 */
export function parseDiskProfile(bytes: Uint8Array, features: FeatureBits, queueCount: number): DiskProfile {
  const config = decodeConfig(bytes);
  const has = (feature: number): boolean => hasFeature(features, feature);
  const blockSize = has(VIRTIO_BLK_F_BLK_SIZE) ? config.blk_size : VIRTIO_BLK_SECTOR_SIZE;
  const servedCount = has(VIRTIO_BLK_F_MQ) ? config.num_queues : 1;
  const segmentSizeMax = has(VIRTIO_BLK_F_SIZE_MAX) ? config.size_max : WORD_MAX;
  if (config.capacity > BigInt(SECTOR_COUNT_MAX))
    throw nonsense('capacity', `0x${config.capacity.toString(16)}`);
  const isBlock = blockSize >= VIRTIO_BLK_SECTOR_SIZE && blockSize <= BLOCK_SIZE_MAX;
  if (!isBlock || (blockSize & (blockSize - 1)) !== 0) throw nonsense('blk_size', blockSize);
  if (servedCount === 0 || servedCount > queueCount) throw nonsense('num_queues', servedCount);
  if (segmentSizeMax < VIRTIO_BLK_SECTOR_SIZE) throw nonsense('size_max', segmentSizeMax);
  return {
    capacitySectors: Number(config.capacity),
    readOnly: has(VIRTIO_BLK_F_RO),
    blockSize,
    queueCount: servedCount,
    segmentCountMax: has(VIRTIO_BLK_F_SEG_MAX) ? config.seg_max || 1 : 1,
    segmentSizeMax,
    discardSectorsMax: has(VIRTIO_BLK_F_DISCARD) ? config.max_discard_sectors || WORD_MAX : 0,
    writeZeroesSectorsMax: has(VIRTIO_BLK_F_WRITE_ZEROES) ? config.max_write_zeroes_sectors || WORD_MAX : 0,
  };
}

function nonsense(field: string, value: number | string): BlkError {
  return new BlkError('EPROTO', `the device's configuration has ${field} ${value}`);
}
