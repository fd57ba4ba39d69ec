import { pageMemory } from '@virtlab/linux';
import { BlockPositions, DISK_SIZE } from '../blk/block-positions.ts';
import { type Contender, timeNs } from '../contender.ts';
import type { DiskWork } from './disk-client.ts';

/** In a table, and of the disks whose work it is. */
export const COPY_ALONE = 'a copy alone';

/**
 * The bytes of a disk, and buffers as far as requests are in flight: what a disk in memory cannot do without. Both begin on pages, as
 * theirs do.
 */
export class CopyAlone {
  readonly #disk: Uint8Array;
  readonly #buffers: Uint8Array;

  constructor(contents: Uint8Array, bufferSize: number) {
    this.#disk = pageMemory(contents.length);
    this.#disk.set(contents);
    this.#buffers = pageMemory(bufferSize).fill(1);
  }

  /** Moves the bytes of as many requests in one thread, without requests. */
  contender({ isWrite, isSequential, size, depth }: DiskWork): Contender {
    const positions = new BlockPositions();
    let following = 0;
    const move = (count: number): void => {
      const disk = this.#disk;
      const buffers = this.#buffers;
      for (let index = 0; index < count; index += 1) {
        const position = isSequential ? following : positions.next() * size;
        if (isSequential) following = (position + size) % DISK_SIZE;
        const offset = (index % depth) * size;
        if (isWrite) disk.set(buffers.subarray(offset, offset + size), position);
        else buffers.set(disk.subarray(position, position + size), offset);
      }
    };
    const run = (count: number) => ({ operationCount: count, elapsedNs: timeNs(() => move(count)) });
    return { name: COPY_ALONE, isPeer: true, run };
  }
}
