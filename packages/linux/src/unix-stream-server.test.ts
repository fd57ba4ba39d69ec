import { closeSync, constants, linkSync, mkdirSync, mkdtempSync } from 'node:fs';
import { openSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openFdCount } from './fd.ts';
import { tryLockFile } from './file-space.ts';
import { describeWithFfi } from './testing/describe-with-ffi.ts';
import { UnixStream } from './unix-stream.ts';
import { UnixStreamServer } from './unix-stream-server.ts';

const PATH_SIZE_MAX = 107;

describeWithFfi('the path of a UnixStreamServer', () => {
  let folder = '';
  let before = 0;
  beforeEach(() => {
    before = openFdCount();
    folder = mkdtempSync(join(tmpdir(), 'virtlab-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
    expect(openFdCount()).toBe(before);
  });

  const listen = (path: string): UnixStreamServer =>
    UnixStreamServer.listen(path, (stream) => stream.close());

  /** A server that dies leaves its path: the close removes only one of two names. */
  const leaveDead = (path: string): void => {
    const server = listen(join(folder, 'first'));
    linkSync(join(folder, 'first'), path);
    server.close();
  };

  it.each([
    ['in its name', 0],
    ['in its directory', 1],
  ])('unix(7) has 107 bytes, %s, and not one more', (_, folderCount) => {
    const rest = PATH_SIZE_MAX - folder.length - 1;
    const path = folderCount === 0 ? join(folder, 'n'.repeat(rest)) : join(folder, 'f'.repeat(rest - 2), 'n');
    if (folderCount === 1) mkdirSync(join(folder, 'f'.repeat(rest - 2)));
    expect(path).toHaveLength(PATH_SIZE_MAX);
    for (let round = 0; round < 2; round += 1) {
      const server = listen(path);
      UnixStream.connect(path).close();
      expect(() => listen(path)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
      server.close();
    }
    leaveDead(path);
    listen(path).close();
    expect(readdirSync(join(path, '..'))).toEqual([]);
    expect(() => listen(`${path}n`)).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
  });

  it('a dead socket is replaced under the lock of its directory, which is given back', () => {
    const path = join(folder, 'socket');
    leaveDead(path);
    const held = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    expect(tryLockFile(held, 'exclusive')).toBe(true);
    expect(() => listen(path)).toThrow(expect.objectContaining({ code: 'EAGAIN', syscall: 'flock' }));
    expect(() => UnixStream.connect(path)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
    closeSync(held);
    for (let round = 0; round < 2; round += 1) {
      listen(path).close();
      leaveDead(path);
    }
  });

  it('what the file system refuses is a LinuxError, and nothing is left there', () => {
    symlinkSync('loop', join(folder, 'loop'));
    for (const name of ['n', 'n'.repeat(PATH_SIZE_MAX - folder.length - '/loop/'.length)]) {
      expect(() => listen(join(folder, 'loop', name))).toThrow(
        expect.objectContaining({ name: 'LinuxError', code: 'ELOOP' }),
      );
    }
    expect(() => listen(join(folder, 'loop'))).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
    expect(readdirSync(folder)).toEqual(['loop']);
  });
});
