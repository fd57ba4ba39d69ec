import { readSync } from 'node:fs';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { type PageMemoryOptions, pageMemory } from '@virtlab/linux';
import { openRawFileBackend } from '@virtlab/virtio-blk/node';
import { StartError } from '../start-error.ts';
import type { BlkPlan } from './daemon-plan.ts';

/** Of one read: Linux takes less than 2 GiB at once, read(2). */
const PIECE_SIZE = 64 << 20;

/**
 * What a disk in memory begins with: its image, or zeroes. Rejects with `StartError` when there is not so much memory, and with
 * `BlkBackendError` for an image that cannot be read.
 */
export async function memoryContents(
  { file, size }: Pick<BlkPlan, 'file' | 'size'>,
  options: PageMemoryOptions = {},
): Promise<Uint8Array> {
  if (file === undefined) return memoryFor('--size', size!, options);
  const image = await openRawFileBackend({ path: file, readOnly: true });
  try {
    const imageSize = image.capacitySectors * VIRTIO_BLK_SECTOR_SIZE;
    const contents = memoryFor(`--blk-file ${file}`, imageSize, options);
    for (let at = 0; at < imageSize;) {
      const count = readSync(image.fd, contents, at, Math.min(PIECE_SIZE, imageSize - at), at);
      if (count === 0) throw new StartError('usage', `--blk-file ${file} ends at byte ${at} of ${imageSize}`);
      at += count;
    }
    return contents;
  } finally {
    await image.close();
  }
}

function memoryFor(option: string, size: number, options: PageMemoryOptions): Uint8Array {
  try {
    return pageMemory(size, options);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = `${option}: there are no ${size} bytes of memory for --backend memory (${error.message})`;
    throw new StartError('environment', message);
  }
}
