import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { BlkDriver } from '@virtlab/virtio-blk';
import { type RunResult, elapsedNs } from '../contender.ts';
import type { DriverVariant } from '../lab/driver-variant.ts';
import { BLOCK_SIZE, BlockPositions } from './block-positions.ts';

/** Reads or writes of one block each, `depth` of them in flight. */
export interface BlockIo {
  /** What the driver is to be like. */
  readonly variant?: DriverVariant | undefined;
  readonly isWrite: boolean;
  /** Block after block instead of all over the disk. */
  readonly isSequential?: boolean | undefined;
  readonly depth: number;
  readonly count: number;
}

export const DEPTH_MAX = 32;
const BLOCK_SECTORS = BLOCK_SIZE / VIRTIO_BLK_SECTOR_SIZE;

/** Access through the data plane of a driver: one buffer for each request in flight, kept for the disk's life. */
export class BlockIoRunner {
  readonly #disk: BlkDriver;
  readonly #buffer: number;
  readonly #positions = new BlockPositions();

  constructor(disk: BlkDriver) {
    this.#disk = disk;
    this.#buffer = disk.allocateBuffer(DEPTH_MAX * BLOCK_SIZE);
  }

  async run({ isWrite, isSequential = false, depth, count }: BlockIo): Promise<RunResult> {
    const disk = this.#disk;
    const before = disk.statistics;
    const start = performance.now();
    await this.#move(isWrite, isSequential, Math.min(depth, count), count);
    const elapsed = elapsedNs(start);
    const after = disk.statistics;
    const doorbells = { kicks: after.kicks - before.kicks, calls: after.calls - before.calls };
    return { operationCount: count, elapsedNs: elapsed, doorbells };
  }

  async #move(isWrite: boolean, isSequential: boolean, depth: number, count: number): Promise<void> {
    const disk = this.#disk;
    const done = Promise.withResolvers<void>();
    let begun = 0;
    let ended = 0;
    const submit = (token: number): void => {
      const sector = (isSequential ? this.#positions.following() : this.#positions.next()) * BLOCK_SECTORS;
      const at = this.#buffer + token * BLOCK_SIZE;
      begun += 1;
      const result = isWrite
        ? disk.submitWrite(sector, at, BLOCK_SIZE, token)
        : disk.submitRead(sector, at, BLOCK_SIZE, token);
      if (result !== 0)
        done.reject(new Error(`The disk took no request (${result}): ${disk.failure ?? 'full'}`));
    };
    disk.onCompletion((token, completion) => {
      if (completion !== VIRTIO_BLK_S_OK) done.reject(new Error(`A request ended with ${completion}`));
      ended += 1;
      if (begun < count) submit(token);
      else if (ended === count) done.resolve();
    });
    for (let token = 0; token < depth; token += 1) submit(token);
    disk.kick();
    await done.promise;
  }
}
