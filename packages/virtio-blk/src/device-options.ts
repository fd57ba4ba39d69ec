import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_SECTOR_SIZE,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { BlockBackend } from './backend.ts';
import { encodeConfig } from './protocol.ts';

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
  /** Sectors in one range of a discard. Default 4,194,303. */
  readonly discardSectorsMax?: number;
  /** Sectors in one range of a write zeroes; bounds how long one request keeps the loop. Default 8192. */
  readonly writeZeroesSectorsMax?: number;
  /** Ranges in one discard or write zeroes. Default 16. */
  readonly rangeCountMax?: number;
}

/** The options, checked, in the form the device uses. */
export interface BlkDeviceProfile {
  readonly features: FeatureBits;
  readonly config: Uint8Array;
  readonly queueSizesMax: readonly number[];
  /** 20 bytes, NUL padded. */
  readonly id: Uint8Array;
  readonly discardSectorsMax: number;
  readonly writeZeroesSectorsMax: number;
  readonly rangeCountMax: number;
}

/** §5.2.4: num_queues is a le16; more queues than this are nobody's need. */
const QUEUE_COUNT_MAX = 1024;
/** What QEMU offers with its default queue of 256. */
const SEG_MAX_DEFAULT = 254;
const WORD_MAX = 0xffff_ffff;

/** @throws RangeError naming the option that does not fit its field */
export function resolveDeviceOptions(options: BlkDeviceOptions): BlkDeviceProfile {
  const { backend } = options;
  const queueCount = within('queueCount', options.queueCount ?? 1, 1, QUEUE_COUNT_MAX);
  const queueSize = within('queueSize', options.queueSize ?? 256, 4, 32768);
  const segMax = within('segMax', options.segMax ?? Math.min(queueSize - 2, SEG_MAX_DEFAULT), 1, WORD_MAX);
  const sizeMax = options.sizeMax && within('sizeMax', options.sizeMax, VIRTIO_BLK_SECTOR_SIZE, WORD_MAX);
  const discardSectorsMax = within('discardSectorsMax', options.discardSectorsMax ?? 0x3f_ffff, 1, WORD_MAX);
  const writeZeroesSectorsMax = within(
    'writeZeroesSectorsMax',
    options.writeZeroesSectorsMax ?? 8192,
    1,
    WORD_MAX,
  );
  const rangeCountMax = within('rangeCountMax', options.rangeCountMax ?? 16, 1, 256);
  const writable = backend.readOnly
    ? {}
    : {
        max_discard_sectors: discardSectorsMax,
        max_discard_seg: rangeCountMax,
        discard_sector_alignment: backend.blockSize / VIRTIO_BLK_SECTOR_SIZE,
        max_write_zeroes_sectors: writeZeroesSectorsMax,
        max_write_zeroes_seg: rangeCountMax,
        write_zeroes_may_unmap: 1,
      };
  return {
    features: offeredFeatures(backend.readOnly, queueCount, sizeMax),
    config: encodeConfig({
      capacity: BigInt(backend.capacitySectors),
      size_max: sizeMax ?? 0,
      seg_max: segMax,
      blk_size: backend.blockSize,
      num_queues: queueCount > 1 ? queueCount : 0,
      ...writable,
    }),
    queueSizesMax: Array.from({ length: queueCount }, () => queueSize),
    id: encodeId(options.serial ?? ''),
    discardSectorsMax,
    writeZeroesSectorsMax,
    rangeCountMax,
  };
}

function offeredFeatures(readOnly: boolean, queueCount: number, sizeMax: number | undefined): FeatureBits {
  return featureBits(
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_FLUSH,
    ...(sizeMax === undefined ? [] : [VIRTIO_BLK_F_SIZE_MAX]),
    ...(readOnly ? [VIRTIO_BLK_F_RO] : [VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES]),
    ...(queueCount > 1 ? [VIRTIO_BLK_F_MQ] : []),
  );
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
