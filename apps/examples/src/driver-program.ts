/** A program that uses a disk, and does not know whose it is or what is between. */
import type { AioContext } from '@virtlab/aio';
import { type Blkio, openBlkio } from '@virtlab/blkio';
import type { DriverLink } from '@virtlab/virtio';

const BLOCK_SIZE = 4096;
const BLOCK_COUNT = 64;

/** What the program found; plain data. */
export interface DiskReport {
  readonly capacity: number;
  readonly blocksWritten: number;
  readonly wrongBlocks: readonly number[];
}

/** Writes 64 blocks all at once, flushes, reads them in another order and compares. The link stays the caller's. */
export async function useDisk(link: DriverLink, aio: AioContext): Promise<DiskReport> {
  await using disk = await openBlkio(link, { aio });
  const [queue] = disk.queues as [Blkio['queues'][number]];
  using region = disk.allocateRegion(BLOCK_SIZE * BLOCK_COUNT);
  const blocks = Array.from({ length: BLOCK_COUNT }, (_, block) => block);
  const bytesOf = (block: number): Uint8Array =>
    region.bytes.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);

  for (const block of blocks) bytesOf(block).fill(block + 1);
  const write = (block: number): Promise<void> =>
    queue.promises.write(block * BLOCK_SIZE, region, block * BLOCK_SIZE, BLOCK_SIZE);
  await Promise.all(blocks.map(write));
  await queue.promises.flush();

  region.bytes.fill(0);
  // The same ring by its batch face: one publication for all requests, and completions as they come.
  for (const block of blocks.toReversed()) {
    queue.read(block * BLOCK_SIZE, region, block * BLOCK_SIZE, BLOCK_SIZE, block);
  }
  queue.submit();
  const wrongBlocks: number[] = [];
  let left = BLOCK_COUNT;
  for await (const { count, tokens, results } of queue.completions()) {
    for (let index = 0; index < count; index += 1) {
      const block = tokens[index]!;
      if (results[index] !== 0 || bytesOf(block).some((byte) => byte !== block + 1)) wrongBlocks.push(block);
    }
    left -= count;
    if (left === 0) break;
  }
  return { capacity: disk.capacity, blocksWritten: BLOCK_COUNT, wrongBlocks };
}
