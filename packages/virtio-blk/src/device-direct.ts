import {
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '@virtlab/abi/virtio-blk';
import type { DescriptorChain, DeviceQueue } from '@virtlab/vring';
import { BACKEND_PENDING, type BlockBackend } from './backend.ts';
import type { DeviceCommands } from './device-commands.ts';
import type { DeviceRequests } from './device-requests.ts';
import type { BlkCounters } from './device-statistics.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const HEADER_SIZE = VIRTIO_BLK_OUTHDR.size;
const STATUS_SIZE = VIRTIO_BLK_STATUS_SIZE;
const SECTOR_SIZE = VIRTIO_BLK_SECTOR_SIZE;
const S_OK = VIRTIO_BLK_S_OK;
const T_IN = VIRTIO_BLK_T_IN;
const T_OUT = VIRTIO_BLK_T_OUT;
const PENDING = BACKEND_PENDING;

/** The answers of `DirectTransfers.serve`. */
export const DIRECT_DONE = 0;
export const DIRECT_BEGUN = 1;
export const DIRECT_NOT = 2;
export type DirectResult = typeof DIRECT_DONE | typeof DIRECT_BEGUN | typeof DIRECT_NOT;

/**
 * The short way of what nearly every request is: a read or a write whose data is one piece of memory, with nothing else in its
 * segment. It is checked as all others are; when the backend ends it at once it needs no slot. Whatever is wrong
 * or unusual about a request is left to the long way, which looks at it from the beginning.
 */
export class DirectTransfers {
  readonly #backend: BlockBackend;
  readonly #requests: DeviceRequests;
  readonly #commands: DeviceCommands;
  readonly #counters: readonly BlkCounters[];
  /** Neither zones, which have a say in each transfer, nor vectors, for which transfers wait. */
  readonly #isPlain: boolean;

  constructor(
    backend: BlockBackend,
    requests: DeviceRequests,
    commands: DeviceCommands,
    counters: readonly BlkCounters[],
  ) {
    this.#backend = backend;
    this.#requests = requests;
    this.#commands = commands;
    this.#counters = counters;
    this.#isPlain = backend.zones === undefined && backend.readVector === undefined;
  }

  /**
   * `DIRECT_DONE`: the chain was pushed. `DIRECT_BEGUN`: it is held in a slot, and the backend will end it. `DIRECT_NOT`: nothing
   * happened. `isWriteThrough`: a write has to be flushed as well, and is not for here.
   */
  serve(
    queueIndex: number,
    queue: DeviceQueue,
    chain: DescriptorChain,
    type: number,
    sector: number,
    isWriteThrough: boolean,
  ): DirectResult {
    if (!this.#isPlain) return DIRECT_NOT;
    if (type === T_IN) return this.#read(queueIndex, queue, chain, sector);
    if (type === T_OUT && !isWriteThrough) return this.#write(queueIndex, queue, chain, sector);
    return DIRECT_NOT;
  }

  #read(queueIndex: number, queue: DeviceQueue, chain: DescriptorChain, sector: number): DirectResult {
    const { segments, readableCount, writableSize } = chain;
    const size = writableSize - STATUS_SIZE;
    if (segments.count - readableCount !== 2 || segments.size[readableCount] !== size) return DIRECT_NOT;
    if (!this.#commands.admitsRead(chain, sector, size)) return DIRECT_NOT;
    const slot = this.#requests.next;
    const region = chain.regions[segments.region[readableCount]!]!;
    const offset = segments.offset[readableCount]!;
    const counters = this.#counters[queueIndex]!;
    counters.reads += 1;
    const status = this.#backend.read(region, offset, size, sector * SECTOR_SIZE, slot);
    if (status === PENDING) return this.#hold(queueIndex, chain, T_IN, size);
    if (status === S_OK) counters.readSize += size;
    else counters.failures += 1;
    chain.writeU8(size, status);
    queue.push(chain, status === S_OK ? writableSize : 0);
    return DIRECT_DONE;
  }

  #write(queueIndex: number, queue: DeviceQueue, chain: DescriptorChain, sector: number): DirectResult {
    const { segments, readableCount, readableSize } = chain;
    const size = readableSize - HEADER_SIZE;
    if (readableCount !== 2 || segments.size[1] !== size) return DIRECT_NOT;
    if (!this.#commands.admitsWrite(chain, sector, size)) return DIRECT_NOT;
    const slot = this.#requests.next;
    const region = chain.regions[segments.region[1]!]!;
    const offset = segments.offset[1]!;
    const counters = this.#counters[queueIndex]!;
    counters.writes += 1;
    const status = this.#backend.write(region, offset, size, sector * SECTOR_SIZE, slot);
    if (status === PENDING) return this.#hold(queueIndex, chain, T_OUT, 0);
    if (status === S_OK) counters.writtenSize += size;
    else counters.failures += 1;
    chain.writeU8(0, status);
    queue.push(chain, status === S_OK ? STATUS_SIZE : 0);
    return DIRECT_DONE;
  }

  /** `onComplete` runs at the earliest after the operation returned, so the slot may be filled in now. */
  #hold(queueIndex: number, chain: DescriptorChain, type: number, writtenSize: number): DirectResult {
    const slot = this.#requests.take(queueIndex, chain, type);
    this.#requests.writtenSize[slot] = writtenSize;
    this.#requests.pendingCount[slot] = 1;
    return DIRECT_BEGUN;
  }
}
