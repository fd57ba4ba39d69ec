import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWithFfi } from './testing.ts';
import { LinuxError } from './linux-error.ts';
import { punchHole, tryLockFile, zeroRange } from './file-space.ts';

const SIZE = 1 << 20;

describeWithFfi('space of files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'linux-file-space-'));
  const path = join(folder, 'file');
  const fds: number[] = [];
  const open = (flags: string): number => {
    const fd = openSync(path, flags);
    fds.push(fd);
    return fd;
  };
  beforeAll(() => writeFileSync(path, Buffer.alloc(SIZE, 0xaa)));
  afterAll(() => {
    for (const fd of fds) closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  /** Not every file system can; then the answer must be that. */
  function isDone(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      if (error instanceof LinuxError && error.code === 'EOPNOTSUPP') return false;
      throw error;
    }
  }

  it('a hole reads as zero, gives its blocks back and leaves size and neighbours alone', () => {
    const before = statSync(path).blocks;
    if (!isDone(() => punchHole(open('r+'), 65536, 2 * 65536))) return;
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(SIZE);
    expect(bytes.subarray(65536, 3 * 65536).every((byte) => byte === 0)).toBe(true);
    expect([bytes[65535], bytes[3 * 65536]]).toEqual([0xaa, 0xaa]);
    expect(statSync(path).blocks).toBeLessThan(before);
  });

  it('a zero range reads as zero and keeps the size', () => {
    if (!isDone(() => zeroRange(open('r+'), 512 * 1024 + 100, 1000))) return;
    const bytes = readFileSync(path);
    const at = 512 * 1024 + 100;
    expect(bytes.subarray(at, at + 1000).every((byte) => byte === 0)).toBe(true);
    expect([bytes[at - 1], bytes[at + 1000], bytes.length]).toEqual([0xaa, 0xaa, SIZE]);
  });

  it('errors are LinuxErrors with their errno', () => {
    expect(() => punchHole(open('r'), 0, 4096)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => punchHole(open('r+'), 0, 0)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => tryLockFile(9999, 'shared')).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('flock: shared ones get along, an exclusive one is alone, and closing lets go', () => {
    const [first, second] = [openSync(path, 'r+'), open('r+')];
    expect([tryLockFile(first, 'shared'), tryLockFile(second, 'shared')]).toEqual([true, true]);
    expect(tryLockFile(second, 'exclusive')).toBe(false);
    closeSync(first);
    expect(tryLockFile(second, 'exclusive')).toBe(true);
    expect(tryLockFile(open('r'), 'shared')).toBe(false);
  });
});
