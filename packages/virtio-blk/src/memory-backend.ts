import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type BackendCompletion, type BlockBackend, requireBlockSize } from './backend.ts';

export interface MemoryBackendOptions {
  /**
   * The disk: a whole number of sectors, used in place and owned by the caller; copied fastest where it begins on a page. Or its
   * size in bytes: zeroes.
   */
  readonly contents: Uint8Array | number;
  readonly readOnly?: boolean;
  /** Default 512. */
  readonly blockSize?: number;
}

/**
 * A disk in memory. Every operation ends at once; flush has nothing to do, since the memory is all the storage there is.
 *
 * @throws RangeError if `contents` is not one sector or more, or `blockSize` is not a power of two
 */
export function createMemoryBackend(options: MemoryBackendOptions): BlockBackend {
  return new MemoryBackend(options);
}

class MemoryBackend implements BlockBackend {
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly mayUnmap = false;
  readonly #bytes: Uint8Array;

  constructor({ contents, readOnly = false, blockSize = VIRTIO_BLK_SECTOR_SIZE }: MemoryBackendOptions) {
    const size = typeof contents === 'number' ? contents : contents.length;
    if (!Number.isSafeInteger(size) || size < VIRTIO_BLK_SECTOR_SIZE || size % VIRTIO_BLK_SECTOR_SIZE !== 0) {
      throw new RangeError(`${size} bytes are not a whole number of sectors, at least one`);
    }
    this.#bytes = typeof contents === 'number' ? new Uint8Array(contents) : contents;
    this.capacitySectors = size / VIRTIO_BLK_SECTOR_SIZE;
    this.readOnly = readOnly;
    this.blockSize = requireBlockSize(blockSize, VIRTIO_BLK_SECTOR_SIZE);
  }

  onComplete(_completion: BackendCompletion | undefined): void {
    // Nothing is ever pending.
  }

  read(region: MemoryRegion, offset: number, size: number, position: number): number {
    region.u8.set(this.#bytes.subarray(position, position + size), offset);
    return VIRTIO_BLK_S_OK;
  }

  write(region: MemoryRegion, offset: number, size: number, position: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    this.#bytes.set(region.u8.subarray(offset, offset + size), position);
    return VIRTIO_BLK_S_OK;
  }

  flush(): number {
    return VIRTIO_BLK_S_OK;
  }

  discard(): number {
    return this.readOnly ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
  }

  writeZeroes(position: number, size: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    this.#bytes.fill(0, position, position + size);
    return VIRTIO_BLK_S_OK;
  }

  /** No copy remains anywhere. */
  secureErase(position: number, size: number): number {
    return this.writeZeroes(position, size);
  }

  submit(): void {
    // Nothing is ever held back.
  }

  async close(): Promise<void> {
    // The bytes are the caller's.
  }
}
