import { VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import {
  type CoherentBuffer,
  type DeviceMemory,
  type DmaMapper,
  loadIndexAcquire,
  type MemoryRegion,
  storeIndexRelease,
} from '@virtlab/guest-memory';
import { createBufferList } from '../buffer-list.ts';
import type { BufferList, DeviceQueue, DriverQueue, RingFeatures } from '../contract.ts';
import { createDeviceQueue } from '../device-queue.ts';
import { createDriverQueue } from '../driver-queue.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
  RingViews,
} from '../ring-views.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_NEXT = VRING_DESC_F_NEXT;
const F_WRITE = VRING_DESC_F_WRITE;
const HIGH = DESC_ADDR_HIGH;
const LOW = DESC_ADDR_LOW;
const LINK = DESC_FLAGS_NEXT;
const LEN = DESC_LEN;
const NEXT_SHIFT = DESC_NEXT_SHIFT;
const WORDS = DESC_WORDS;

export interface RingCycleOptions {
  readonly dma: DmaMapper;
  readonly memory: DeviceMemory;
  /** Entries; default 256. */
  readonly size?: number;
  readonly features?: RingFeatures;
  /** Buffers in each request: the first device-readable, the others device-writable; default 1. */
  readonly bufferCount?: number;
  /** Requests between two publications on either side; default 16. */
  readonly batchCount?: number;
  /**
   * Instead of the driver half, plain stores by a driver that keeps nothing: what the benchmarks of other rings put
   * before their device half. Device addresses are then offsets in the mapper's memory. Default false.
   */
  readonly rawDriver?: boolean;
}

const BUFFER_SIZE = 64;

/**
 * Requests going round one ring in one thread as fast as they can: add, publish, pop, push, publish, pop used. For
 * benchmarks; touches no payload. Owns its queues until `release`.
 */
export class RingCycle {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  /** Doorbells that would have been rung. */
  kickCount = 0;
  callCount = 0;
  readonly #buffers: BufferList;
  readonly #batchCount: number;
  readonly #dma: DmaMapper;
  readonly #payload: CoherentBuffer;
  readonly #raw: RawDriver | undefined;

  constructor(options: RingCycleOptions) {
    const { dma, memory, size = 256, bufferCount = 1, batchCount = 16, rawDriver = false } = options;
    const features = options.features ?? { indirect: false, eventIdx: true };
    this.driver = createDriverQueue({ size, dma, features, bufferCountMax: bufferCount });
    const made = createDeviceQueue({ addresses: this.driver.addresses, memory, features });
    if (!made.ok) throw new Error(`Device queue refused: ${made.violation.message}`);
    this.device = made.queue;
    this.#dma = dma;
    this.#payload = dma.allocateCoherent(BUFFER_SIZE * bufferCount);
    this.#batchCount = batchCount;
    this.#buffers = createBufferList(bufferCount);
    const { offset } = this.#payload;
    for (let i = 0; i < bufferCount; i++) {
      if (i === 0) this.#buffers.addReadable(offset, BUFFER_SIZE);
      else this.#buffers.addWritable(offset + i * BUFFER_SIZE, BUFFER_SIZE);
    }
    this.#raw = rawDriver ? new RawDriver(this.driver, dma.memory, offset, bufferCount) : undefined;
  }

  /** Moves at least `count` requests, in whole batches; the number moved. Throws if one is lost. */
  run(count: number): number {
    let moved = 0;
    while (moved < count) moved += this.#raw === undefined ? this.#batch() : this.#rawBatch(this.#raw);
    return moved;
  }

  release(): void {
    this.device.release();
    this.driver.release();
    this.#dma.freeCoherent(this.#payload);
  }

  #batch(): number {
    const { driver, device } = this;
    const batchCount = this.#batchCount;
    for (let i = 0; i < batchCount; i++) {
      if (driver.add(this.#buffers, i) !== 0) throw new Error('The ring is full or broken');
    }
    if (driver.needsKick()) this.kickCount++;
    for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
      device.push(chain, chain.writableSize);
    }
    if (device.needsCall()) this.callCount++;
    let count = 0;
    while (driver.popUsed() >= 0) count++;
    if (count !== batchCount) throw new Error(`${batchCount} requests went in, ${count} came back`);
    return count;
  }

  #rawBatch(driver: RawDriver): number {
    const { device } = this;
    const batchCount = this.#batchCount;
    driver.offer(batchCount);
    for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
      device.push(chain, chain.writableSize);
    }
    if (device.needsCall()) this.callCount++;
    const count = driver.collect();
    if (count !== batchCount) throw new Error(`${batchCount} requests went in, ${count} came back`);
    return count;
  }
}

/** Writes descriptors in ring order with no bookkeeping, and asks for a call after each batch. */
class RawDriver {
  readonly #ring: RingViews;
  readonly #payload: number;
  readonly #bufferCount: number;
  #descriptor = 0;
  #availIdx = 0;
  #usedIdx = 0;

  constructor({ addresses }: DriverQueue, region: MemoryRegion, payload: number, bufferCount: number) {
    const at = (address: bigint): { region: MemoryRegion; offset: number } => ({
      region,
      offset: Number(address),
    });
    const { size, descriptorArea, driverArea, deviceArea } = addresses;
    this.#ring = new RingViews(size, at(descriptorArea), at(driverArea), at(deviceArea));
    this.#payload = payload;
    this.#bufferCount = bufferCount;
  }

  offer(count: number): void {
    const { desc32, descBase, avail16, availRing, availIdx, mask } = this.#ring;
    const bufferCount = this.#bufferCount;
    for (let i = 0; i < count; i++) {
      avail16[availRing + (this.#availIdx & mask)] = this.#descriptor;
      for (let j = 0; j < bufferCount; j++) {
        const at = descBase + this.#descriptor * WORDS;
        const next = (this.#descriptor + 1) & mask;
        desc32[at + LOW] = this.#payload + j * BUFFER_SIZE;
        desc32[at + HIGH] = 0;
        desc32[at + LEN] = BUFFER_SIZE;
        desc32[at + LINK] = (j > 0 ? F_WRITE : 0) | (j + 1 < bufferCount ? F_NEXT | (next << NEXT_SHIFT) : 0);
        this.#descriptor = next;
      }
      this.#availIdx = (this.#availIdx + 1) & 0xffff;
    }
    storeIndexRelease(avail16, availIdx, this.#availIdx);
  }

  collect(): number {
    const { avail16, usedEvent, used16, usedIdx } = this.#ring;
    const index = loadIndexAcquire(used16, usedIdx);
    const count = (index - this.#usedIdx) & 0xffff;
    this.#usedIdx = index;
    storeIndexRelease(avail16, usedEvent, index);
    return count;
  }
}
