import {
  VIRTIO_BLK_DISCARD_WRITE_ZEROES,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
} from '@virtlab/abi/virtio-blk';
import type { DescriptorChain } from '@virtlab/vring';
import { sectorFromWords } from './protocol.ts';

const RANGE = VIRTIO_BLK_DISCARD_WRITE_ZEROES;

/**
 * The ranges of one discard or write zeroes (§5.2.6), copied out of guest memory once and checked as a whole before
 * anything is done, so that a request that is refused has changed nothing. Reused from request to request.
 */
export class RangeList {
  readonly sector: Float64Array;
  readonly sectorCount: Uint32Array;
  readonly flags: Uint32Array;
  count = 0;

  constructor(countMax: number) {
    this.sector = new Float64Array(countMax);
    this.sectorCount = new Uint32Array(countMax);
    this.flags = new Uint32Array(countMax);
  }

  /**
   * Takes the ranges that follow the header. OK, or the status that refuses the request:
   * IOERR for a payload that is no whole number of ranges, or a range that is too long or past `capacitySectors`;
   * UNSUPP for more ranges than announced and for flags outside `knownFlags`, which wins over IOERR because the
   * flag could give the range another meaning.
   */
  load(chain: DescriptorChain, knownFlags: number, rangeSectorsMax: number, capacitySectors: number): number {
    const size = chain.readableSize - VIRTIO_BLK_OUTHDR.size;
    this.count = 0;
    if (size === 0 || size % RANGE.size !== 0) return VIRTIO_BLK_S_IOERR;
    const count = size / RANGE.size;
    if (count > this.sector.length) return VIRTIO_BLK_S_UNSUPP;
    let status = VIRTIO_BLK_S_OK;
    for (let index = 0; index < count; index += 1) {
      const at = VIRTIO_BLK_OUTHDR.size + index * RANGE.size;
      const low = chain.readU32(at + RANGE.offset.sector);
      const sector = sectorFromWords(low, chain.readU32(at + RANGE.offset.sector + 4));
      const sectorCount = chain.readU32(at + RANGE.offset.num_sectors);
      const flags = chain.readU32(at + RANGE.offset.flags);
      if ((flags & ~knownFlags) !== 0) return VIRTIO_BLK_S_UNSUPP;
      if (sectorCount > rangeSectorsMax || sector + sectorCount > capacitySectors)
        status = VIRTIO_BLK_S_IOERR;
      this.sector[index] = sector;
      this.sectorCount[index] = sectorCount;
      this.flags[index] = flags;
    }
    if (status === VIRTIO_BLK_S_OK) this.count = count;
    return status;
  }
}
