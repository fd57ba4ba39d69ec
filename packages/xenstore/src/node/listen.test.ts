import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XS_READ } from '@virtlab/abi/xs-wire';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createXenstore } from '../create-xenstore.ts';
import { encodePacket } from '../wire.ts';
import { connectXenstore } from './connect.ts';
import { listenXenstore } from './listen.ts';
import { defaultSocketPath } from './socket-path.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstore-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('listenXenstore', () => {
  it('only the owner may connect; closing removes the socket and connections go on', async () => {
    const path = join(directory, 'socket');
    const xenstore = createXenstore();
    const listener = await listenXenstore({ path, server: xenstore.server });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const client = await connectXenstore(path);
    await listener.close();
    await listener.close();
    expect(() => statSync(path)).toThrow('ENOENT');
    expect(await client.directory('/')).toEqual(['tool']);
    await expect(connectXenstore(path)).rejects.toMatchObject({ code: 'ENOENT' });
    client.close();
    xenstore.close();
  });

  it('replaces the socket of a dead daemon, but not of a living one', async () => {
    const path = join(directory, 'socket');
    const leave = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ['-e', leave]);
    expect(statSync(path).isSocket()).toBe(true);
    const xenstore = createXenstore();
    const listener = await listenXenstore({ path, server: xenstore.server });
    await expect(listenXenstore({ path, server: xenstore.server })).rejects.toMatchObject({
      code: 'EADDRINUSE',
    });
    const client = await connectXenstore(path);
    expect(await client.exists('/tool')).toBe(true);
    client.close();
    await listener.close();
    xenstore.close();
  });

  it('leaves alone what is not a socket', async () => {
    const path = join(directory, 'file');
    writeFileSync(path, 'precious');
    const { server } = createXenstore();
    await expect(listenXenstore({ path, server })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    expect(statSync(path).isFile()).toBe(true);
    const missing = join(directory, 'none', 'socket');
    await expect(listenXenstore({ path: missing, server })).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('socket clients', () => {
  it('one that never reads is bounded, and forgotten when it dies; others are served', async () => {
    const path = join(directory, 'socket');
    const xenstore = createXenstore({ schedule: (turn) => void setImmediate(turn) });
    const listener = await listenXenstore({ path, server: xenstore.server });
    const client = await connectXenstore(path);
    await client.write('/v', 'x'.repeat(4000));
    const greedy = connect(path);
    greedy.on('error', () => undefined);
    const requests = Buffer.concat(Array.from({ length: 1000 }, () => encodePacket(XS_READ, 1, 0, '/v\0')));
    for (let i = 0; i < 20; i++) greedy.write(requests);
    for (let i = 0; i < 200; i++) {
      await client.read('/v');
      for (const { outputSize } of xenstore.statistics().connections) expect(outputSize).toBeLessThan(70_000);
    }
    expect(greedy.writableLength).toBeGreaterThan(0);
    greedy.destroy();
    while (xenstore.statistics().connections.length > 1) await new Promise((turn) => setImmediate(turn));
    client.close();
    await listener.close();
  });
});

describe('connectXenstore', () => {
  it('rejects what is pending when the daemon goes away', async () => {
    const path = join(directory, 'socket');
    const daemon = createServer((socket) => setImmediate(() => socket.destroy()));
    await new Promise<void>((resolve) => {
      daemon.listen(path, resolve);
    });
    const client = await connectXenstore(path);
    await expect(client.read('/a')).rejects.toMatchObject({ code: 'EIO' });
    daemon.close();
  });
});

describe('defaultSocketPath', () => {
  it('xs_open: XENSTORED_PATH, else XENSTORED_RUNDIR, else the system’s', () => {
    expect(defaultSocketPath({ XENSTORED_PATH: '/p/s', XENSTORED_RUNDIR: '/r' })).toBe('/p/s');
    expect(defaultSocketPath({ XENSTORED_RUNDIR: '/r' })).toBe('/r/socket');
    expect(defaultSocketPath({})).toBe('/var/run/xenstored/socket');
  });
});
