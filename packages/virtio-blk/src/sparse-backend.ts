import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type BackendCompletion, type BlockBackend, requireBlockSize } from './backend.ts';

export interface SparseBackendOptions {
  /** Sectors of 512 bytes; costs nothing until written. */
  readonly capacitySectors: number;
  /** Memory that written clusters may take, in bytes; a write beyond it fails with IOERR, as on a full disk. */
  readonly memorySizeMax?: number;
  /** Default 512. */
  readonly blockSize?: number;
}

/** A disk in memory that is larger than memory: holes read as zero, discard and write zeroes make holes again. */
export interface SparseBackend extends BlockBackend {
  /** Bytes of memory that hold data now. */
  readonly allocatedSize: number;
}

/** Bytes that are allocated together. */
const CLUSTER_SIZE = 64 * 1024;
/** Byte positions stay exact integers in a double. */
const CAPACITY_SECTORS_MAX = 2 ** 53 / VIRTIO_BLK_SECTOR_SIZE;

/** @throws RangeError if the capacity is not an integer from 1 to 2^44 sectors, or `blockSize` is not a power of two */
export function createSparseBackend(options: SparseBackendOptions): SparseBackend {
  return new ClusteredBackend(options);
}

class ClusteredBackend implements SparseBackend {
  readonly capacitySectors: number;
  readonly readOnly = false;
  readonly blockSize: number;
  readonly #clusters = new Map<number, Uint8Array>();
  readonly #clusterCountMax: number;

  constructor(options: SparseBackendOptions) {
    const { capacitySectors, memorySizeMax = Number.MAX_SAFE_INTEGER } = options;
    if (!Number.isInteger(capacitySectors) || capacitySectors < 1 || capacitySectors > CAPACITY_SECTORS_MAX) {
      throw new RangeError(`capacity of ${capacitySectors} sectors is not from 1 to 2^44`);
    }
    this.capacitySectors = capacitySectors;
    this.blockSize = requireBlockSize(options.blockSize ?? VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_SECTOR_SIZE);
    this.#clusterCountMax = Math.floor(memorySizeMax / CLUSTER_SIZE);
  }

  get allocatedSize(): number {
    return this.#clusters.size * CLUSTER_SIZE;
  }

  onComplete(_completion: BackendCompletion | undefined): void {
    // Nothing is ever pending.
  }

  read(region: MemoryRegion, offset: number, size: number, position: number): number {
    for (let done = 0; done < size;) {
      const within = (position + done) % CLUSTER_SIZE;
      const count = Math.min(size - done, CLUSTER_SIZE - within);
      const cluster = this.#clusters.get((position + done - within) / CLUSTER_SIZE);
      const to = offset + done;
      if (cluster === undefined) region.u8.fill(0, to, to + count);
      else region.u8.set(cluster.subarray(within, within + count), to);
      done += count;
    }
    return VIRTIO_BLK_S_OK;
  }

  write(region: MemoryRegion, offset: number, size: number, position: number): number {
    for (let done = 0; done < size;) {
      const within = (position + done) % CLUSTER_SIZE;
      const count = Math.min(size - done, CLUSTER_SIZE - within);
      const cluster = this.#allocate((position + done - within) / CLUSTER_SIZE);
      if (cluster === undefined) return VIRTIO_BLK_S_IOERR;
      cluster.set(region.u8.subarray(offset + done, offset + done + count), within);
      done += count;
    }
    return VIRTIO_BLK_S_OK;
  }

  flush(): number {
    return VIRTIO_BLK_S_OK;
  }

  discard(position: number, size: number): number {
    return this.writeZeroes(position, size);
  }

  writeZeroes(position: number, size: number): number {
    const end = position + size;
    // A hole as large as the disk must cost no more than the clusters that exist.
    if (size / CLUSTER_SIZE > this.#clusters.size) {
      for (const index of this.#clusters.keys()) this.#zero(index, position, end);
    } else {
      for (let at = position - (position % CLUSTER_SIZE); at < end; at += CLUSTER_SIZE) {
        this.#zero(at / CLUSTER_SIZE, position, end);
      }
    }
    return VIRTIO_BLK_S_OK;
  }

  submit(): void {
    // Nothing is ever held back.
  }

  async close(): Promise<void> {
    this.#clusters.clear();
  }

  #allocate(index: number): Uint8Array | undefined {
    const present = this.#clusters.get(index);
    if (present !== undefined || this.#clusters.size >= this.#clusterCountMax) return present;
    const cluster = new Uint8Array(CLUSTER_SIZE);
    this.#clusters.set(index, cluster);
    return cluster;
  }

  #zero(index: number, position: number, end: number): void {
    const cluster = this.#clusters.get(index);
    const start = index * CLUSTER_SIZE;
    if (cluster === undefined || start >= end || start + CLUSTER_SIZE <= position) return;
    if (position <= start && end >= start + CLUSTER_SIZE) this.#clusters.delete(index);
    else cluster.fill(0, Math.max(position - start, 0), Math.min(end - start, CLUSTER_SIZE));
  }
}
