import { VIRTIO_BLK_OUTHDR } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DescriptorChain } from '@virtlab/vring';

/** As many pieces as Linux takes in one call (IOV_MAX), and as a chain may have. */
export const VECTOR_COUNT_MAX = 1024;

/** Pieces of guest memory in the order of their bytes on the disk: a struct of arrays, made once, filled again and again. */
export class BlockVector {
  readonly region: MemoryRegion[] = [];
  readonly offset: Uint32Array = new Uint32Array(VECTOR_COUNT_MAX);
  readonly size: Float64Array = new Float64Array(VECTOR_COUNT_MAX);
  count = 0;
  /** Bytes of all pieces. */
  totalSize = 0;

  clear(): void {
    this.count = 0;
    this.totalSize = 0;
  }

  /** Whether as many more pieces fit. */
  hasRoom(count: number): boolean {
    return this.count + count <= VECTOR_COUNT_MAX;
  }

  /** A piece that continues the last one in memory is made one with it. The caller has seen to the room. */
  add(region: MemoryRegion, offset: number, size: number): void {
    const last = this.count - 1;
    this.totalSize += size;
    const isNext =
      last >= 0 && this.region[last] === region && offset === this.offset[last]! + this.size[last]!;
    if (isNext) this.size[last]! += size;
    else this.#append(region, offset, size);
  }

  /**
   * Adds the data of a request: `size` bytes of the writable part from its start, for a read; of the readable part after
   * the header, for a write. `isJoined` as `add`, else each segment stays a piece of its own.
   */
  addData(chain: DescriptorChain, isWrite: boolean, size: number, isJoined: boolean): void {
    const { segments, regions, readableCount } = chain;
    let skip = isWrite ? VIRTIO_BLK_OUTHDR.size : 0;
    let left = size;
    for (let index = isWrite ? 0 : readableCount; left > 0; index += 1) {
      const segmentSize = segments.size[index]!;
      if (skip >= segmentSize) {
        skip -= segmentSize;
        continue;
      }
      const count = Math.min(segmentSize - skip, left);
      const region = regions[segments.region[index]!]!;
      const offset = segments.offset[index]! + skip;
      if (isJoined) this.add(region, offset, count);
      else {
        this.totalSize += count;
        this.#append(region, offset, count);
      }
      left -= count;
      skip = 0;
    }
  }

  #append(region: MemoryRegion, offset: number, size: number): void {
    const at = this.count;
    this.region[at] = region;
    this.offset[at] = offset;
    this.size[at] = size;
    this.count = at + 1;
  }
}
