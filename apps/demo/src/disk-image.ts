import { constants } from 'node:fs';
import { access, mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { DemoError, type DemoOptions } from './options.ts';

const IMAGE_SIZE = 64 << 20;
const SECTOR_SIZE = 512;

/** The image behind the first guest's disk. */
export interface DiskImage extends AsyncDisposable {
  readonly path: string;
  readonly isOwn: boolean;
}

/** Throws `DemoError` naming the file when it is missing, unreadable, not a file, or too small for a sector. */
export async function openDiskImage({ disk, keepImage }: DemoOptions): Promise<DiskImage> {
  if (disk !== undefined) {
    await checkImage(disk);
    return { path: disk, isOwn: false, [Symbol.asyncDispose]: async () => {} };
  }
  if (keepImage !== undefined) {
    await makeImage(keepImage);
    return { path: keepImage, isOwn: true, [Symbol.asyncDispose]: async () => {} };
  }
  const folder = await mkdtemp(join(tmpdir(), 'virtlab-'));
  const path = join(folder, 'disk.img');
  await makeImage(path);
  return { path, isOwn: true, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

/** SHA-256 of a file's whole sectors, in hex. */
export async function sha256OfImage(path: string): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const whole = size - (size % SECTOR_SIZE);
    const chunk = Buffer.alloc(1 << 20);
    for (let at = 0; at < whole;) {
      const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, whole - at), at);
      if (bytesRead === 0) throw new DemoError('failed', `${path} became shorter while it was read`);
      hash.update(chunk.subarray(0, bytesRead));
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}

/** Throws `DemoError` naming the file when it cannot be written. It is empty afterwards. */
export async function checkCapture(path: string): Promise<void> {
  try {
    await (await open(path, 'w')).close();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DemoError('usage', `--pcap ${path}: ${reason}`, { cause: error });
  }
}

async function checkImage(path: string): Promise<void> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new DemoError('usage', `--disk ${path}: it is not a file`);
    if (found.size < SECTOR_SIZE)
      throw new DemoError('usage', `--disk ${path}: ${found.size} bytes are less than a sector`);
    await access(path, constants.R_OK);
  } catch (error) {
    if (error instanceof DemoError) throw error;
    throw new DemoError(
      'usage',
      `--disk ${path}: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}

async function makeImage(path: string): Promise<void> {
  try {
    const file = await open(path, 'w');
    try {
      await file.truncate(IMAGE_SIZE);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new DemoError(
      'usage',
      `Cannot make the image ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
}
