import type { BlkDriver } from '@virtlab/virtio-blk';

/**
 * A disk as blocks of eight sectors, each sector saying which write put it there: block, generation and a pattern made of
 * both. Generation g is written to block g mod `BLOCK_COUNT`, and generations only grow: a block may hold a later
 * one than was acknowledged, but no earlier one and nothing else.
 */
export const BLOCK_COUNT = 64;
export const IMAGE_SIZE: number = BLOCK_COUNT * 4096;
const SECTOR_SIZE = 512;
const BLOCK_SECTORS = 8;
const WORDS = SECTOR_SIZE / 4;
const MAGIC = 0x7669_7274;

export function blockOf(generation: number): number {
  return generation % BLOCK_COUNT;
}

export async function writeGeneration(disk: BlkDriver, generation: number): Promise<void> {
  const block = new Uint32Array(BLOCK_SECTORS * WORDS);
  for (let sector = 0; sector < BLOCK_SECTORS; sector += 1) {
    block.set(sectorWords(generation, sector), sector * WORDS);
  }
  await disk.write(blockOf(generation) * BLOCK_SECTORS, new Uint8Array(block.buffer));
}

/** Reads the whole disk and answers the highest generation on it. Throws, naming the sector, for anything that cannot be. */
export async function verifyDisk(disk: BlkDriver, acknowledged: readonly number[]): Promise<number> {
  const bytes = new Uint8Array(IMAGE_SIZE);
  await disk.read(0, bytes);
  const words = new Uint32Array(bytes.buffer);
  let highest = 0;
  for (let at = 0; at < BLOCK_COUNT * BLOCK_SECTORS; at += 1) {
    const found = words.subarray(at * WORDS, (at + 1) * WORDS);
    const least = acknowledged[Math.floor(at / BLOCK_SECTORS)] ?? 0;
    const generation = found[1]!;
    if (least === 0 && found.every((word) => word === 0)) continue;
    const expected = sectorWords(generation, at % BLOCK_SECTORS);
    const isWhole = found.every((word, index) => word === expected[index]);
    if (!isWhole || blockOf(generation) !== Math.floor(at / BLOCK_SECTORS))
      throw new Error(`Sector ${at} holds what was never written there (generation ${generation})`);
    if (generation < least) {
      throw new Error(
        `Sector ${at} holds generation ${generation}; ${least} had been acknowledged by a flush`,
      );
    }
    highest = Math.max(highest, generation);
  }
  return highest;
}

function sectorWords(generation: number, sector: number): Uint32Array {
  const words = Uint32Array.from({ length: WORDS }, (_, at) => Math.imul(generation * 31 + sector, at + 1));
  words.set([MAGIC, generation, sector]);
  return words;
}
