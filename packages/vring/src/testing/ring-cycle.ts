import type { CoherentBuffer, DeviceMemory, DmaMapper } from '@virtlab/guest-memory';
import { createBufferList } from '../buffer-list.ts';
import type { BufferList, DeviceQueue, DriverQueue, RingFeatures } from '../contract.ts';
import { createDeviceQueue } from '../device-queue.ts';
import { createDriverQueue } from '../driver-queue.ts';
import { RAW_BUFFER_SIZE, type RawDriver, RawPackedDriver, RawSplitDriver } from './raw-driver.ts';

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

const BUFFER_SIZE = RAW_BUFFER_SIZE;

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
    const Raw = features.packed === true ? RawPackedDriver : RawSplitDriver;
    this.#raw = rawDriver ? new Raw(this.driver, dma.memory, offset, bufferCount) : undefined;
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
