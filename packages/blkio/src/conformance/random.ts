import { expect, it } from 'vitest';
import { type Prng, createPrng } from '@virtlab/aio';
import { createCompletions } from '../completions.ts';
import { BLKIO_REQ_FUA, type Blkio, type BlkioQueue, type BlkioRegion } from '../contract.ts';
import { createVector } from '../vector.ts';
import { AREA_SIZE, type BlkioSetup, pollFor, withDisk } from './faces.ts';

const BLOCK = 512;
const ROUND_COUNT = 24;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? 1);

/**
 * Rounds of requests that do not touch each other, through all faces at once, against an array. A round's ranges are
 * stripes of the disk, so the order in which they complete does not matter.
 */
export function describeRandom(setup: BlkioSetup, ringFeatures: bigint): void {
  it(`random requests of all faces leave what a model of them leaves (seed ${SEED})`, async () => {
    const held = await withDisk(setup, ringFeatures, async (disk) => {
      const random = createPrng(SEED);
      const model = new Uint8Array(AREA_SIZE);
      const region = disk.allocateRegion(AREA_SIZE);
      await disk.queues[0]!.promises.write(0, region, 0, AREA_SIZE);
      for (let round = 0; round < ROUND_COUNT; round += 1) await playRound(disk, region, model, random);
      await disk.queues[0]!.promises.read(0, region, 0, AREA_SIZE);
      expect(Buffer.compare(region.bytes, model)).toBe(0);
    });
    expect(held, 'what is still held').toEqual([]);
  });
}

type Kind = 'read' | 'durable write' | 'write' | 'zeroes';

const KINDS: readonly Kind[] = ['read', 'durable write', 'write', 'zeroes'];

interface Piece {
  readonly kind: Kind;
  readonly isBatch: boolean;
  readonly at: number;
  readonly size: number;
}

async function playRound(disk: Blkio, region: BlkioRegion, model: Uint8Array, random: Prng): Promise<void> {
  const queue = disk.queues[0]!;
  const count = 1 + random.below(queue.depth);
  const pieces = Array.from({ length: count }, (_, stripe) => pieceOf(stripe, count, random));
  for (const piece of pieces) prepare(piece, region, model, random);
  const batch = pieces.filter(({ isBatch }) => isBatch);
  const staged = batch.map((piece, token) => stage(queue, region, piece, token));
  // What has no room left waits for it, which the batch face does not.
  const asked = pieces.filter(({ isBatch }) => !isBatch).map((piece) => ask(disk, region, piece));
  queue.submit();
  expect(staged).toEqual(batch.map(() => 0));
  const taken = await pollFor(disk, queue, createCompletions(1 + random.below(4)), batch.length);
  expect(taken).toEqual(batch.map((_, token) => [token, 0]));
  await Promise.all(asked);
  for (const { at, size } of pieces.filter(({ kind }) => kind === 'read'))
    expect(Buffer.compare(region.bytes.subarray(at, at + size), model.subarray(at, at + size))).toBe(0);
}

function pieceOf(stripe: number, stripeCount: number, random: Prng): Piece {
  const stripeSize = Math.floor(AREA_SIZE / stripeCount / BLOCK) * BLOCK;
  const size = (1 + random.below(Math.min(16, stripeSize / BLOCK))) * BLOCK;
  const at = stripe * stripeSize + random.below((stripeSize - size) / BLOCK + 1) * BLOCK;
  return { kind: KINDS[random.below(KINDS.length)]!, isBatch: random.below(2) === 0, at, size };
}

/** What lies in the region before, and on the disk afterwards. */
function prepare({ kind, at, size }: Piece, region: BlkioRegion, model: Uint8Array, random: Prng): void {
  const bytes = region.bytes.subarray(at, at + size);
  if (kind === 'zeroes') model.fill(0, at, at + size);
  else if (kind === 'read') bytes.fill(0x5a);
  else {
    for (let byte = 0; byte < size; byte += 1) bytes[byte] = random.below(256);
    model.set(bytes, at);
  }
}

function stage(queue: BlkioQueue, region: BlkioRegion, { kind, at, size }: Piece, token: number): number {
  if (kind === 'read') return queue.read(at, region, at, size, token);
  if (kind === 'zeroes') return queue.writeZeroes(at, size, token);
  return queue.write(at, region, at, size, token, kind === 'write' ? 0 : BLKIO_REQ_FUA);
}

async function ask(disk: Blkio, region: BlkioRegion, { kind, at, size }: Piece): Promise<void> {
  const { promises } = disk.queues[0]!;
  const half = disk.limits.segmentCountMax > 1 ? Math.floor(size / BLOCK / 2) * BLOCK : 0;
  if (kind === 'read') await promises.readv(at, halves(region, at, size, half));
  else if (kind === 'zeroes') await promises.writeZeroes(at, size);
  else await promises.writev(at, halves(region, at, size, half), kind === 'write' ? 0 : BLKIO_REQ_FUA);
}

function halves(
  region: BlkioRegion,
  at: number,
  size: number,
  half: number,
): ReturnType<typeof createVector> {
  const vector = createVector();
  if (half > 0) vector.add(region, at, half);
  vector.add(region, at + half, size - half);
  return vector;
}
