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
  /** 1 once the request's queue was reset: nothing of the driver's memory is touched for it any more. */
  readonly isForgotten: Uint8Array;
  /** The request that the same operation of the backend serves as well; -1 at the end. */
  readonly merged: Int32Array;
  /** Where an append went. */
  readonly appendSector: Float64Array;
  /** Where the data is, how much of it, and which way it goes; for an operation that is tried again. */
  readonly isWrite: Uint8Array;
  readonly position: Float64Array;
  readonly dataSize: Float64Array;
  readonly #heldByQueue: Uint32Array;
  readonly #free: Uint32Array;
  #freeCount: number;

  constructor(capacity: number, queueCount: number) {
    this.chain = Array.from({ length: capacity }, () => undefined);
    this.queueIndex = new Uint16Array(capacity);
    this.type = new Uint32Array(capacity);
    this.pendingCount = new Uint32Array(capacity);
    this.status = new Uint8Array(capacity);
    this.writtenSize = new Float64Array(capacity);
    this.flushing = new Uint8Array(capacity);
    this.isForgotten = new Uint8Array(capacity);
    this.merged = new Int32Array(capacity);
    this.appendSector = new Float64Array(capacity);
    this.isWrite = new Uint8Array(capacity);
    this.position = new Float64Array(capacity);
    this.dataSize = new Float64Array(capacity);
    this.#heldByQueue = new Uint32Array(queueCount);
    this.#free = Uint32Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
    this.#freeCount = capacity;
  }

  get heldCount(): number {
    return this.chain.length - this.#freeCount;
  }

  heldCountOf(queueIndex: number): number {
    return this.#heldByQueue[queueIndex]!;
  }

  /** Every request of the queue; see `isForgotten`. */
  forget(queueIndex: number): void {
    for (let slot = 0; slot < this.chain.length; slot += 1) {
      if (this.chain[slot] !== undefined && this.queueIndex[slot] === queueIndex) this.isForgotten[slot] = 1;
    }
  }

  /** The slot that `take` takes next. */
  get next(): number {
    if (this.#freeCount === 0) refuseMore(this.chain.length);
    return this.#free[this.#freeCount - 1]!;
  }

  /** One slot a ring entry is enough: a queue has no more requests in flight than entries. */
  take(queueIndex: number, chain: DescriptorChain, type: number): number {
    const slot = this.next;
    this.#freeCount -= 1;
    this.chain[slot] = chain;
    this.queueIndex[slot] = queueIndex;
    this.type[slot] = type;
    this.pendingCount[slot] = 0;
    this.status[slot] = VIRTIO_BLK_S_OK;
    this.writtenSize[slot] = 0;
    this.flushing[slot] = 0;
    this.isForgotten[slot] = 0;
    this.merged[slot] = -1;
    this.#heldByQueue[queueIndex]! += 1;
    return slot;
  }

  give(slot: number): void {
    this.chain[slot] = undefined;
    this.#heldByQueue[this.queueIndex[slot]!]! -= 1;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  /** Keeps the first failure: later ones say less. */
  note(slot: number, status: number): void {
    if (this.status[slot] === VIRTIO_BLK_S_OK) this.status[slot] = status;
  }
}

/** Apart, because a function with a text in it is too long for the engine to inline. */
function refuseMore(capacity: number): never {
  throw new Error(`More than ${capacity} requests in flight`);
}
