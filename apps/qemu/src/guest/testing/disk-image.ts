import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, statSync } from 'node:fs';
import { expect } from 'vitest';

/** Of `stat.blocks`, whatever the file system's own blocks are (POSIX stat.h as Linux does it). */
const STAT_BLOCK_SIZE = 512;

/** A file of zeroes that takes no room. */
export function createImage(path: string, size: number): string {
  const fd = openSync(path, 'wx');
  ftruncateSync(fd, size);
  closeSync(fd);
  return path;
}

/** Bytes that the file takes. */
export function allocatedSize(path: string): number {
  return statSync(path).blocks * STAT_BLOCK_SIZE;
}

/** Fails unless e2fsck finds the file system on an image of this machine in order, which it reads only. */
export function expectCleanFileSystem(image: string): void {
  const { status, stdout, stderr, error } = spawnSync('e2fsck', ['-f', '-n', image], { encoding: 'utf8' });
  const said = error?.message ?? stdout + stderr;
  expect(said).toContain('Pass 5');
  expect(status, `e2fsck: ${said}`).toBe(0);
}

/** SHA-256 of a file in a file system that is not mounted, as `sha256sum` prints it. */
export function fileChecksum(image: string, path: string): string {
  const { status, stdout, error } = spawnSync('debugfs', ['-R', `cat ${path}`, image], {
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw error ?? new Error(`debugfs ended with ${status}`);
  return createHash('sha256').update(stdout).digest('hex');
}
