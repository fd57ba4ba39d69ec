import { expect, it } from 'vitest';
import type { AioContext } from '@virtlab/aio';
import type { DriverLink } from '@virtlab/virtio';
import { createCompletions } from '../completions.ts';
import {
  BLKIO_FULL,
  BLKIO_REQ_FUA,
  type Blkio,
  type BlkioCompletions,
  type BlkioQueue,
} from '../contract.ts';
import { openBlkio } from '../open.ts';
import { createVector } from '../vector.ts';

/** A writable disk of blocks of 512 bytes, and its driver's end. */
export interface DiskUnderTest {
  readonly link: DriverLink;
  /** On the platform's own time. */
  readonly aio: AioContext;
  /** Ends the link and names what is still held. */
  close(): Promise<readonly string[]>;
}

export interface BlkioSetup {
  readonly name: string;
  /** Bytes; at least 256 KiB, of which the suite uses the first 256. */
  readonly capacity: number;
  create(): Promise<DiskUnderTest>;
}

export const AREA_SIZE: number = 256 * 1024;
const BLOCK = 512;

/** Opens a disk and ends it again; what is still held then. */
export async function withDisk(
  setup: BlkioSetup,
  ringFeatures: bigint,
  body: (disk: Blkio) => Promise<void>,
): Promise<readonly string[]> {
  const under = await setup.create();
  let held: readonly string[] = [];
  try {
    const disk = await openBlkio(under.link, {
      aio: under.aio,
      queueSize: 16,
      ringFeatures,
      timeoutMs: 5000,
    });
    try {
      await body(disk);
    } finally {
      await disk.close();
    }
  } finally {
    held = await under.close();
  }
  return held;
}

/** Lets the loop run between two looks. Rejects when the disk fails. */
export async function pollFor(
  disk: Blkio,
  queue: BlkioQueue,
  into: BlkioCompletions,
  count: number,
): Promise<[number, number][]> {
  const taken: [number, number][] = [];
  while (taken.length < count) {
    queue.poll(into);
    for (let at = 0; at < into.count; at += 1) taken.push([into.tokens[at]!, into.results[at]!]);
    if (taken.length >= count) break;
    if (disk.failure !== undefined) throw new Error(disk.failure);
    await new Promise((resolve) => void setImmediate(resolve));
  }
  return taken.toSorted(([a], [b]) => a - b);
}

function pattern(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, at) => (at * 7 + (at >> 8) * 13 + seed) & 0xff);
}

export function describeFaces(setup: BlkioSetup, ringFeatures: bigint): void {
  const scene = (name: string, body: (disk: Blkio, queue: BlkioQueue) => Promise<void>): void => {
    it(name, async () => {
      const held = await withDisk(setup, ringFeatures, (disk) => body(disk, disk.queues[0]!));
      expect(held, 'what is still held').toEqual([]);
    });
  };

  scene('promises: what was written is read back, in turns of any size', async (disk, { promises }) => {
    expect(disk.capacity).toBe(setup.capacity);
    const region = disk.allocateRegion(2 * AREA_SIZE);
    const data = pattern(AREA_SIZE, 1);
    region.bytes.set(data);
    const pieces = Array.from({ length: 64 }, (_, index) => index * 4096);
    await Promise.all(pieces.map((at) => promises.write(at, region, at, 4096)));
    await promises.flush();
    await Promise.all(pieces.map((at) => promises.read(at, region, AREA_SIZE + at, 4096)));
    expect(Buffer.compare(region.bytes.subarray(AREA_SIZE), data)).toBe(0);
  });

  scene('batch: many requests, one submit, tokens of any size come back once each', async (disk, queue) => {
    const region = disk.allocateRegion(4 * 4096);
    const done = createCompletions(3);
    region.bytes.set(pattern(2 * 4096, 2));
    const tokens = [0, Number.MAX_SAFE_INTEGER];
    expect(queue.write(8192, region, 0, 4096, tokens[0]!)).toBe(0);
    expect(queue.write(8192 + 4096, region, 4096, 4096, tokens[1]!, BLKIO_REQ_FUA)).toBe(0);
    expect([queue.poll(done), queue.inFlightCount]).toEqual([0, 2]);
    queue.submit();
    expect(await pollFor(disk, queue, done, 2)).toEqual(tokens.map((token) => [token, 0]));
    queue.read(8192, region, 8192, 8192, 5);
    queue.submit();
    expect(await pollFor(disk, queue, done, 1)).toEqual([[5, 0]]);
    expect(region.bytes.slice(8192)).toEqual(region.bytes.slice(0, 8192));
    expect(queue.inFlightCount).toBe(0);
  });

  scene('a queue takes `depth` requests, then none until one was taken from it', async (disk, queue) => {
    const region = disk.allocateRegion(BLOCK);
    const done = createCompletions(1);
    let taken = 0;
    while (queue.read(0, region, 0, BLOCK, taken) === 0) taken += 1;
    expect([taken, queue.read(0, region, 0, BLOCK, taken)]).toEqual([queue.depth, BLKIO_FULL]);
    queue.submit();
    expect(await pollFor(disk, queue, done, 1)).toHaveLength(1);
    expect(queue.read(0, region, 0, BLOCK, taken)).toBe(0);
    queue.submit();
    expect(await pollFor(disk, queue, done, taken)).toHaveLength(taken);
  });

  scene('vectors: pieces of several regions, gathered and scattered', async (disk, queue) => {
    const count = Math.min(3, disk.limits.segmentCountMax);
    const regions = Array.from({ length: count }, () => disk.allocateRegion(4096));
    const back = disk.allocateRegion(count * BLOCK);
    const vector = createVector(1);
    for (const [index, region] of regions.entries()) {
      region.bytes.set(pattern(4096, index));
      vector.add(region, index * BLOCK, BLOCK);
    }
    await queue.promises.writev(4096, vector);
    await queue.promises.read(4096, back, 0, count * BLOCK);
    const expected = regions.flatMap(({ bytes }, index) => [
      ...bytes.subarray(index * BLOCK, (index + 1) * BLOCK),
    ]);
    expect([...back.bytes.subarray(0, count * BLOCK)]).toEqual(expected);
    vector.clear();
    for (const region of regions.toReversed()) vector.add(region, 0, BLOCK);
    await queue.promises.readv(4096, vector);
    expect([...regions.at(-1)!.bytes.subarray(0, BLOCK)]).toEqual(expected.slice(0, BLOCK));
  });

  scene('completions(): batches as they come, and an end with the disk', async (disk, queue) => {
    const region = disk.allocateRegion(16 * BLOCK);
    const seen: number[] = [];
    for (let token = 0; token < 4; token += 1) queue.read(token * BLOCK, region, token * BLOCK, BLOCK, token);
    queue.submit();
    for await (const batch of queue.completions()) {
      for (let at = 0; at < batch.count; at += 1) seen.push(batch.tokens[at]!);
      if (seen.length < 12) {
        for (let at = 0; at < batch.count; at += 1) {
          const token = 4 + seen.length + at;
          queue.read(0, region, 0, BLOCK, token);
        }
        queue.submit();
      }
      if (queue.inFlightCount === 0) void disk.close();
    }
    expect(seen.length).toBeGreaterThanOrEqual(12);
    expect(disk.failure).toBe('the disk was closed');
  });

  scene('zeroes and discards: read back as zero, or refused by a result', async (disk, queue) => {
    const region = disk.allocateRegion(8192);
    const { promises } = queue;
    region.bytes.fill(0xaa);
    await promises.write(0, region, 0, 8192);
    await promises.writeZeroes(BLOCK, 4096, BLKIO_REQ_FUA);
    await promises.read(0, region, 0, 8192);
    const expected = new Uint8Array(8192).fill(0xaa).fill(0, BLOCK, BLOCK + 4096);
    expect(region.bytes).toEqual(expected);
    const outcome = await Promise.allSettled([promises.discard(0, 4096)]);
    if (disk.limits.discardSizeMax === 0) expect(outcome[0]).toMatchObject({ reason: { code: 'ENOTSUP' } });
    else expect(outcome[0].status).toBe('fulfilled');
  });
}
