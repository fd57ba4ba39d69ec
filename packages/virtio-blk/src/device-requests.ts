import { VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import type { DescriptorChain } from '@virtlab/vring';

/**
 * The requests that a device holds: a struct of arrays, indexed by slot, made once. A slot's number is the token of its
 * operations in the backend, so it must not be taken again before all of them ended.
 */
export class DeviceRequests {
  readonly chain: (DescriptorChain | undefined)[];
  readonly queueIndex: Uint16Array;
  /** Request type, `VIRTIO_BLK_T_*`. */
  readonly type: Uint32Array;
  /** Operations that the backend has not ended. */
  readonly pendingCount: Uint32Array;
  /** The first status that is not OK, or OK. */
  readonly status: Uint8Array;
  /** Bytes at the start of the writable part that a success will have written. */
  readonly writtenSize: Float64Array;
  /** 1 while a write-through request waits for its flush. */
  readonly flushing: Uint8Array;
  readonly #free: Uint32Array;
  #freeCount: number;

  constructor(capacity: number) {
    this.chain = Array.from({ length: capacity }, () => undefined);
    this.queueIndex = new Uint16Array(capacity);
    this.type = new Uint32Array(capacity);
    this.pendingCount = new Uint32Array(capacity);
    this.status = new Uint8Array(capacity);
    this.writtenSize = new Float64Array(capacity);
    this.flushing = new Uint8Array(capacity);
    this.#free = Uint32Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
    this.#freeCount = capacity;
  }

  get heldCount(): number {
    return this.chain.length - this.#freeCount;
  }

  /** One slot a ring entry is enough: a queue has no more requests in flight than entries. */
  take(queueIndex: number, chain: DescriptorChain, type: number): number {
    if (this.#freeCount === 0) throw new Error(`More than ${this.chain.length} requests in flight`);
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount]!;
    this.chain[slot] = chain;
    this.queueIndex[slot] = queueIndex;
    this.type[slot] = type;
    this.pendingCount[slot] = 0;
    this.status[slot] = VIRTIO_BLK_S_OK;
    this.writtenSize[slot] = 0;
    this.flushing[slot] = 0;
    return slot;
  }

  give(slot: number): void {
    this.chain[slot] = undefined;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  /** Keeps the first failure: later ones say less. */
  note(slot: number, status: number): void {
    if (this.status[slot] === VIRTIO_BLK_S_OK) this.status[slot] = status;
  }
}
