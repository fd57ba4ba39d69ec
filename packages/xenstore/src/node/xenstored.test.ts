import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { XENSTORE_PROFILES } from '../profiles.ts';
import { readStatistics } from '../read-statistics.ts';
import { connectXenstore } from './connect.ts';
import { clientSocketPath, preparePrivateDirectory, userSocketPath } from './runtime-directory.ts';
import { startXenstored } from './start-xenstored.ts';
import type { Xenstored, XenstoredOptions } from './xenstored.ts';

const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
const hasTools = (process.env['PATH'] ?? '')
  .split(delimiter)
  .some((place) => existsSync(join(place, 'xenstore-ls')));

let directory: string;
const running: Xenstored[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstored-'));
});
afterEach(async () => {
  for (const daemon of running.splice(0)) await daemon.close();
  rmSync(directory, { recursive: true });
});

const at = (name: string): string => join(directory, name);

async function start(options: XenstoredOptions = {}): Promise<Xenstored> {
  const daemon = await startXenstored({ socketPath: at('socket'), ...options });
  running.push(daemon);
  return daemon;
}

describe('default socket', () => {
  it('XENSTORED_PATH, else XENSTORED_RUNDIR, else the user’s runtime directory, else a private one', () => {
    expect(userSocketPath({ XENSTORED_PATH: '/p/s', XENSTORED_RUNDIR: '/r' })).toBe('/p/s');
    expect(userSocketPath({ XENSTORED_RUNDIR: '/r', XDG_RUNTIME_DIR: '/run/user/7' })).toBe('/r/socket');
    expect(userSocketPath({ XDG_RUNTIME_DIR: '/run/user/7' })).toBe('/run/user/7/xenstored/socket');
    expect(userSocketPath({})).toBe(join(tmpdir(), `xenstored-${process.getuid!()}`, 'socket'));
  });

  it('its directory is made for the owner alone, and narrowed when it was wider', () => {
    const environment = { XDG_RUNTIME_DIR: directory };
    const path = userSocketPath(environment);
    preparePrivateDirectory(path, environment);
    expect(statSync(at('xenstored')).mode & 0o777).toBe(0o700);
    chmodSync(at('xenstored'), 0o777);
    preparePrivateDirectory(path, environment);
    expect(statSync(at('xenstored')).mode & 0o777).toBe(0o700);
  });

  it('a link, a file or another user’s directory in its place is refused', () => {
    const environment = { XDG_RUNTIME_DIR: directory };
    const path = userSocketPath(environment);
    mkdirSync(at('elsewhere'));
    symlinkSync(at('elsewhere'), at('xenstored'));
    expect(() => preparePrivateDirectory(path, environment)).toThrow(
      expect.objectContaining({ code: 'EACCES' }),
    );
    expect(clientSocketPath(environment)).toBe('/var/run/xenstored/socket');
  });

  it('a client finds this user’s daemon when its socket is there, else the system’s', async () => {
    const environment = { XDG_RUNTIME_DIR: directory };
    expect(clientSocketPath(environment)).toBe('/var/run/xenstored/socket');
    preparePrivateDirectory(userSocketPath(environment), environment);
    await start({ socketPath: userSocketPath(environment) });
    expect(clientSocketPath(environment)).toBe(at('xenstored/socket'));
    expect(clientSocketPath({ ...environment, XENSTORED_PATH: '/p' })).toBe('/p');
  });
});

describe('startXenstored', () => {
  it('serves, counts, and is gone after close; a second daemon is refused while it lives', async () => {
    const daemon = await start();
    expect(statSync(daemon.socketPath).mode & 0o777).toBe(0o600);
    const client = await connectXenstore(daemon.socketPath);
    await client.write('/a', '1');
    const { connections, requests } = await readStatistics(client);
    expect(connections).toMatchObject([{ id: 1, domid: 0, kind: 'socket', privileged: true }]);
    expect(requests).toEqual({ WRITE: 1, CONTROL: 1 });
    expect(daemon.statistics().uptimeMs).toBeGreaterThanOrEqual(0);
    await expect(startXenstored({ socketPath: daemon.socketPath })).rejects.toMatchObject({
      code: 'EADDRINUSE',
    });
    await daemon.close();
    await daemon.close();
    expect(await client.closed).toBeDefined();
    expect(existsSync(daemon.socketPath)).toBe(false);
  });

  it('connectXenstore gives up when its signal aborts', async () => {
    const daemon = await start();
    const signal = AbortSignal.abort(new Error('no time'));
    await expect(connectXenstore(daemon.socketPath, { signal })).rejects.toThrow('no time');
    const abort = new AbortController();
    const connecting = connectXenstore(daemon.socketPath, { signal: abort.signal });
    abort.abort(new Error('no time'));
    await expect(connecting).rejects.toThrow('no time');
    const client = await connectXenstore(daemon.socketPath, { signal: new AbortController().signal });
    client.close();
  });

  it('without extensions CONTROL is the profile’s', async () => {
    const daemon = await start({ controlExtensions: false });
    const client = await connectXenstore(daemon.socketPath);
    await expect(client.control('statistics')).rejects.toMatchObject({ code: 'EINVAL' });
    client.close();
  });
});

describe('access log', () => {
  it('is written to its file, reopened on request, and complete after close', async () => {
    const daemon = await start({ accessLog: at('log') });
    const client = await connectXenstore(daemon.socketPath);
    await client.write('/before', '');
    renameSync(at('log'), at('log.1'));
    await daemon.reopenLogs();
    await client.write('/after', '');
    client.close();
    await daemon.close();
    expect(readFileSync(at('log.1'), 'utf8')).toMatch(/^\S+Z conn 1 dom 0 opened socket\n.* WRITE \/before /);
    expect(readFileSync(at('log'), 'utf8')).toMatch(/ WRITE \/after in 7 out 3 OK\n.* closed: /);
  });

  it('CONTROL log and logfile switch it while running', async () => {
    const daemon = await start();
    const client = await connectXenstore(daemon.socketPath);
    await client.control('logfile', at('late'));
    while (!existsSync(at('late'))) await client.exists('/');
    await client.write('/logged', '');
    await client.control('log', 'off');
    await client.write('/unheard', '');
    await client.control('log', 'on');
    await client.write('/again', '');
    client.close();
    await daemon.close();
    const text = readFileSync(at('late'), 'utf8');
    expect(text).toContain('WRITE /logged');
    expect(text).not.toContain('/unheard');
    expect(text).toContain('WRITE /again');
  });

  it('CONTROL print and memreport write to it, memreport also to a file', async () => {
    const daemon = await start({ accessLog: at('log') });
    const client = await connectXenstore(daemon.socketPath);
    await client.control('print', 'hello\nthere');
    await client.control('memreport');
    await client.control('memreport', at('report'));
    await expect(client.control('memreport', at('none/report'))).rejects.toMatchObject({ code: 'EINVAL' });
    client.close();
    await daemon.close();
    expect(readFileSync(at('log'), 'utf8')).toMatch(
      /Z hello\\nthere\n[^]*Z domain 0: \d+ bytes, \d+ nodes\n/,
    );
    expect(readFileSync(at('report'), 'utf8')).toMatch(/^domain 0: \d+ bytes, \d+ nodes\n$/);
  });

  it('rejects when it cannot be opened, and leaves no socket behind', async () => {
    await expect(start({ accessLog: at('none/log') })).rejects.toMatchObject({ code: 'ENOENT' });
    expect(existsSync(at('socket'))).toBe(false);
  });

  it('the trace gets every message', async () => {
    const lines: string[] = [];
    const daemon = await start({ trace: (line) => lines.push(line) });
    const client = await connectXenstore(daemon.socketPath);
    await client.mkdir('/a');
    expect(lines.map((line) => line.slice(25))).toEqual([
      'in conn 1 dom 0 MKDIR req 2 tx 0 len 3 "/a\\000"',
      'out conn 1 dom 0 MKDIR req 2 tx 0 len 3 "OK\\000"',
    ]);
    client.close();
  });
});

describe('dump and restore', () => {
  it.each([...XENSTORE_PROFILES.values()])('$name: what was there is there again', async (profile) => {
    const first = await start({ profile, dump: at('dump') });
    const writer = await connectXenstore(first.socketPath);
    await writer.write('/vm/1', Uint8Array.from([0, 1, 255]));
    await writer.setPermissions('/vm/1', [
      { domid: 1, access: 'n' },
      { domid: 2, access: 'b' },
    ]);
    await first.close();
    expect(statSync(at('dump')).mode & 0o777).toBe(0o600);
    const second = await start({ profile, restore: at('dump') });
    const reader = await connectXenstore(second.socketPath);
    expect([...(await reader.read('/vm/1'))]).toEqual([0, 1, 255]);
    expect(await reader.getPermissions('/vm/1')).toEqual([
      { domid: 1, access: 'n' },
      { domid: 2, access: 'b' },
    ]);
    expect((await readStatistics(reader)).connections[0]!.id).toBe(1);
    reader.close();
  });

  it('CONTROL dump writes a whole file or none, to the named file or to the daemon’s', async () => {
    const daemon = await start();
    const client = await connectXenstore(daemon.socketPath);
    await expect(client.control('dump')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(client.control('dump', at('none/dump'))).rejects.toMatchObject({ code: 'ENOENT' });
    mkdirSync(at('directory'));
    await expect(client.control('dump', at('directory'))).rejects.toMatchObject({ code: 'EISDIR' });
    const dumping = client.control('dump', at('dump'));
    const pipelined = client.write('/later', '');
    expect(await dumping).toBe('OK');
    await pipelined;
    expect(readdirSync(directory).toSorted()).toEqual(['directory', 'dump', 'socket']);
    await daemon.close();
    const restored = await start({ restore: at('dump') });
    const reader = await connectXenstore(restored.socketPath);
    expect(await reader.exists('/later')).toBe(false);
    reader.close();
  });

  it('a bad file is refused with its place, a missing one with ENOENT; nothing listens then', async () => {
    await expect(start({ restore: at('none') })).rejects.toMatchObject({ code: 'ENOENT' });
    writeFileSync(at('bad'), Buffer.concat([Buffer.from('xenstore'), Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])]));
    await expect(start({ restore: at('bad') })).rejects.toThrow('Record 1 of the dump (offset 16)');
    expect(existsSync(at('socket'))).toBe(false);
  });
});

describe.skipIf(!hasTools && !isRequired)(
  'xenstore-utils against faults (skipped without xenstore-utils)',
  () => {
    const run = (program: string, ...parameters: string[]): Promise<{ status: number; output: string }> =>
      new Promise((resolve) => {
        const env = { ...process.env, XENSTORED_PATH: at('socket') };
        execFile(program, parameters, { env, timeout: 15_000 }, (error, stdout, stderr) => {
          const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
          resolve({ status, output: stdout + stderr });
        });
      });

    it('xenstore-write and xenstore-rm of several nodes repeat their transaction through forced EAGAINs', async () => {
      const daemon = await start({ faults: { eagain: 3 } });
      expect(await run('xenstore-write', '/a/b', 'hello', '/a/c', 'x')).toEqual({ status: 0, output: '' });
      expect(daemon.faults.plan).toEqual({});
      expect(daemon.statistics().errors).toEqual({ EAGAIN: 3 });
      expect((await run('xenstore-read', '/a/b')).output).toBe('hello\n');
      daemon.faults.set({ eagain: 2 });
      expect((await run('xenstore-rm', '/a/b', '/a/c')).status).toBe(0);
      expect(daemon.faults.plan).toEqual({});
    });

    it('xenstore-write fails at a full quota and at a cut connection, and the store is unchanged', async () => {
      const daemon = await start({ faults: { fullQuotas: ['nodes'] } });
      const full = await run('xenstore-write', '/a', 'x');
      expect(full.status).not.toBe(0);
      daemon.faults.clear();
      daemon.faults.set({ disconnectAtByte: 10 });
      expect((await run('xenstore-write', '/a', 'x', '/b', 'y')).status).not.toBe(0);
      daemon.faults.clear();
      expect((await run('xenstore-exists', '/a')).status).toBe(1);
    });

    it('xenstore-watch hears delayed and batched events', async () => {
      const daemon = await start({ faults: { eventDelayMs: 5 } });
      const watching = run('xenstore-watch', '-n', '2', '/w');
      while (daemon.store.watchCount === 0) await new Promise((turn) => setImmediate(turn));
      expect((await run('xenstore-write', '/w', '1')).status).toBe(0);
      expect(await watching).toEqual({ status: 0, output: '/w\n/w\n' });
    });
  },
);
