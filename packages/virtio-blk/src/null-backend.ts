import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type BackendCompletion, type BlockBackend, requireBlockSize } from './backend.ts';

export interface NullBackendOptions {
  /** Sectors of 512 bytes. */
  readonly capacitySectors: number;
  /** Reads fill guest memory with zeroes; otherwise (the default) they leave it alone, to measure everything else. */
  readonly readZeroes?: boolean;
  readonly readOnly?: boolean;
  /** Default 512. */
  readonly blockSize?: number;
}

/** A disk that forgets: for benchmarks, and for what QEMU calls `null-co`. Every operation ends at once. */
export function createNullBackend(options: NullBackendOptions): BlockBackend {
  const { capacitySectors, readZeroes = false, readOnly = false } = options;
  if (!Number.isSafeInteger(capacitySectors * VIRTIO_BLK_SECTOR_SIZE) || capacitySectors < 1) {
    throw new RangeError(`capacity of ${capacitySectors} sectors is not from 1 to 2^44`);
  }
  return {
    capacitySectors,
    readOnly,
    mayUnmap: false,
    blockSize: requireBlockSize(options.blockSize ?? VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_SECTOR_SIZE),
    onComplete(_completion: BackendCompletion | undefined): void {},
    read(region: MemoryRegion, offset: number, size: number): number {
      if (readZeroes) region.u8.fill(0, offset, offset + size);
      return VIRTIO_BLK_S_OK;
    },
    write: () => VIRTIO_BLK_S_OK,
    flush: () => VIRTIO_BLK_S_OK,
    discard: () => VIRTIO_BLK_S_OK,
    writeZeroes: () => VIRTIO_BLK_S_OK,
    submit(): void {},
    close: async (): Promise<void> => {},
  };
}
