import { hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_F_FLUSH } from '@virtlab/abi/virtio-blk';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { DiskProfile } from '@virtlab/virtio-blk';
import type { BlkioLimits } from './contract.ts';

/** What all queues and regions of a disk look at for each request: flat, and nobody's property but the disk's. */
export class DiskState {
  /** Bytes. */
  capacity: number;
  readonly transferSizeMax: number;
  readonly segmentCountMax: number;
  readonly segmentSizeMax: number;
  readonly discardSizeMax: number;
  readonly writeZeroesSizeMax: number;
  /** `requestAlignment`, and what to multiply a position with: exact, since it is a power of two. */
  readonly alignmentMask: number;
  readonly perBlock: number;
  readonly readOnly: boolean;
  /** A write is durable only after a flush. */
  readonly needsFlush: boolean;
  readonly hasFlush: boolean;
  readonly hasWriteZeroes: boolean;
  /** Why nothing is accepted any more. */
  failure: string | undefined;

  constructor(profile: DiskProfile, limits: BlkioLimits, features: FeatureBits) {
    this.capacity = 0;
    this.transferSizeMax = limits.transferSizeMax;
    this.segmentCountMax = limits.segmentCountMax;
    this.segmentSizeMax = limits.segmentSizeMax;
    this.discardSizeMax = limits.discardSizeMax;
    this.writeZeroesSizeMax = limits.writeZeroesSizeMax;
    this.alignmentMask = limits.requestAlignment - 1;
    this.perBlock = 1 / limits.requestAlignment;
    this.readOnly = profile.readOnly;
    this.hasFlush = hasFeature(features, VIRTIO_BLK_F_FLUSH);
    this.needsFlush = this.hasFlush && !profile.isWriteThrough;
    this.hasWriteZeroes = profile.writeZeroes.sectorsMax > 0;
    this.failure = undefined;
  }
}
