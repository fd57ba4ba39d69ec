import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { BACKEND_PENDING, type BlockBackend } from './backend.ts';
import { BlockVector } from './block-vector.ts';
import type { DeviceRequests } from './device-requests.ts';
import type { BlkCounters } from './device-statistics.ts';

export interface TransferOptions {
  readonly backend: BlockBackend;
  readonly requests: DeviceRequests;
  /** By queue. */
  readonly counters: readonly BlkCounters[];
  /** Requests, and bytes, of one operation; one request: nothing is merged. */
  readonly mergeCountMax: number;
  readonly mergeSizeMax: number;
  /** One of a request's operations, which its `pendingCount` counts, ended. */
  readonly onEnd: (slot: number, status: number) => void;
}

/**
 * Carries data between chains and the backend. With a backend that takes vectors, reads or writes of one run that follow
 * each other on the disk become one operation; the first that does not fit starts what was held, so that requests
 * begin in the order of the ring. Requests that were merged fail alone: after a failure each is tried by itself.
 */
export class DeviceTransfers {
  readonly #options: TransferOptions;
  readonly #hasVectors: boolean;
  readonly #vector = new BlockVector();
  /** The requests that wait to be begun together, which `#vector` holds the memory of. */
  readonly #held: Uint32Array;
  #heldCount = 0;
  #isHeldWrite = false;
  #heldPosition = 0;
  readonly #single = new BlockVector();

  constructor(options: TransferOptions) {
    const { backend, mergeCountMax } = options;
    this.#options = options;
    this.#hasVectors = backend.readVector !== undefined && backend.writeVector !== undefined;
    this.#held = new Uint32Array(mergeCountMax);
  }

  /**
   * Begins, or holds until `submit`, a transfer of `size` bytes between the request's data and `sector`. OK when it ended
   * well or is under way (the request's `pendingCount` says), else the status that ends it.
   */
  start(slot: number, isWrite: boolean, sector: number, size: number): number {
    const { requests } = this.#options;
    requests.position[slot] = sector * VIRTIO_BLK_SECTOR_SIZE;
    requests.dataSize[slot] = size;
    requests.isWrite[slot] = isWrite ? 1 : 0;
    if (size === 0) return VIRTIO_BLK_S_OK;
    if (this.#hasVectors) {
      this.#hold(slot, isWrite);
      return VIRTIO_BLK_S_OK;
    }
    return this.#startPieces(slot, isWrite);
  }

  /** Begins what is held; to be called before anything else of the backend, and at the end of a run. */
  submit(): void {
    const count = this.#heldCount;
    if (count === 0) return;
    this.#heldCount = 0;
    const { requests } = this.#options;
    const leader = this.#held[0]!;
    for (let index = 1; index < count; index += 1)
      requests.merged[this.#held[index - 1]!] = this.#held[index]!;
    const status = this.#begin(this.#vector, this.#isHeldWrite, this.#heldPosition, leader);
    if (status !== BACKEND_PENDING) this.ended(leader, status);
  }

  /** An operation that was begun under `slot` ended, for all requests that it served. */
  ended(slot: number, status: number): void {
    const { requests, onEnd } = this.#options;
    if (requests.merged[slot] === -1) {
      onEnd(slot, status);
      return;
    }
    for (let at = slot; at !== -1;) {
      const next = requests.merged[at]!;
      requests.merged[at] = -1;
      if (status === VIRTIO_BLK_S_OK || requests.isForgotten[at] === 1) onEnd(at, status);
      else this.#retry(at);
      at = next;
    }
  }

  #hold(slot: number, isWrite: boolean): void {
    const { requests, mergeCountMax, mergeSizeMax, counters } = this.#options;
    const chain = requests.chain[slot]!;
    const position = requests.position[slot]!;
    const size = requests.dataSize[slot]!;
    const vector = this.#vector;
    const isNext =
      this.#heldCount > 0 &&
      this.#heldCount < mergeCountMax &&
      this.#isHeldWrite === isWrite &&
      this.#heldPosition + vector.totalSize === position &&
      vector.totalSize + size <= mergeSizeMax &&
      vector.hasRoom(chain.segments.count);
    if (isNext) counters[requests.queueIndex[slot]!]!.merged += 1;
    else {
      this.submit();
      vector.clear();
      this.#isHeldWrite = isWrite;
      this.#heldPosition = position;
    }
    vector.addData(chain, isWrite, size, true);
    this.#held[this.#heldCount] = slot;
    this.#heldCount += 1;
    requests.pendingCount[slot]! += 1;
  }

  #begin(vector: BlockVector, isWrite: boolean, position: number, token: number): number {
    const { backend } = this.#options;
    if (vector.count > 1) {
      return isWrite
        ? backend.writeVector!(vector, position, token)
        : backend.readVector!(vector, position, token);
    }
    const region = vector.region[0]!;
    const offset = vector.offset[0]!;
    return isWrite
      ? backend.write(region, offset, vector.totalSize, position, token)
      : backend.read(region, offset, vector.totalSize, position, token);
  }

  #retry(slot: number): void {
    const { requests, onEnd } = this.#options;
    const isWrite = requests.isWrite[slot] === 1;
    const vector = this.#single;
    vector.clear();
    vector.addData(requests.chain[slot]!, isWrite, requests.dataSize[slot]!, true);
    const status = this.#begin(vector, isWrite, requests.position[slot]!, slot);
    if (status !== BACKEND_PENDING) onEnd(slot, status);
  }

  #startPieces(slot: number, isWrite: boolean): number {
    const { backend, requests } = this.#options;
    const vector = this.#single;
    vector.clear();
    vector.addData(requests.chain[slot]!, isWrite, requests.dataSize[slot]!, false);
    let position = requests.position[slot]!;
    for (let index = 0; index < vector.count; index += 1) {
      const region = vector.region[index]!;
      const offset = vector.offset[index]!;
      const size = vector.size[index]!;
      const status = isWrite
        ? backend.write(region, offset, size, position, slot)
        : backend.read(region, offset, size, position, slot);
      if (status === BACKEND_PENDING) requests.pendingCount[slot]! += 1;
      else if (status !== VIRTIO_BLK_S_OK) return status;
      position += size;
    }
    return VIRTIO_BLK_S_OK;
  }
}
