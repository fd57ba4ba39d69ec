import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openFdCount } from './fd.ts';
import { removeLeftSocket } from './left-socket.ts';
import { describeWithFfi } from './testing/describe-with-ffi.ts';
import { UnixStreamServer } from './unix-stream-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtlab-'));
afterAll(() => rmSync(folder, { recursive: true }));

const LISTEN = "require('net').createServer().listen(process.argv[1], () => console.log('listening'))";

describeWithFfi('removeLeftSocket', () => {
  it('removes the socket at which this process listens, and nothing twice', () => {
    const before = openFdCount();
    const path = join(folder, 'ours');
    const server = UnixStreamServer.listen(path, (stream) => stream.close());
    expect([removeLeftSocket(path), existsSync(path), removeLeftSocket(path)]).toEqual([true, false, false]);
    server.close();
    expect(openFdCount()).toBe(before);
  });

  it('leaves that of another process, and what is no socket', async () => {
    const path = join(folder, 'theirs');
    const other = spawn(process.execPath, ['-e', LISTEN, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(other.stdout, 'data');
    expect([removeLeftSocket(path), existsSync(path)]).toEqual([false, true]);
    other.kill('SIGKILL');
    await once(other, 'exit');
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect([removeLeftSocket(file), existsSync(file)]).toEqual([false, true]);
  });
});
