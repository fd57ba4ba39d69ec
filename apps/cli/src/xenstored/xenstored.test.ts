import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { domId } from '@virtlab/abi/brands';
import { connectXenstore } from '@virtlab/xenstore/node';
import { XENSTORE_PROFILES, XenstoreError } from '@virtlab/xenstore';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { finish, lines, startDaemon, startProgram, startVirtlab, virtlabAt } from '../testing/virtlab.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-xenstored-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);

describe('virtlab xenstored', { timeout: 60_000 }, () => {
  it('prints one line when it is ready; SIGTERM removes the socket and ends it with 143', async () => {
    const socketPath = fresh('socket');
    const child = startVirtlab(['xenstored', '--socket', socketPath]);
    const run = finish(child);
    const [line] = await lines(child, 1);
    expect(line).toBe(`xenstored (c-4.17) listens at ${socketPath}; export XENSTORED_PATH=${socketPath}`);
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    child.kill('SIGTERM');
    expect(await run).toEqual({
      code: 143,
      signal: null,
      stdout: `${line}\n`,
      stderr: 'virtlab: shutting down\n',
    });
    expect(existsSync(socketPath)).toBe(false);
  });

  it('listens where the environment says, else in the runtime directory of the user', async () => {
    const environments = [
      [{ XENSTORED_PATH: fresh('named') }, (env: Record<string, string>) => env['XENSTORED_PATH']],
      [{ XENSTORED_RUNDIR: folder }, () => join(folder, 'socket')],
      [{ XDG_RUNTIME_DIR: folder }, () => join(folder, 'xenstored', 'socket')],
    ] as const;
    for (const [env, expected] of environments) {
      const daemon = await startDaemon([], env);
      expect(daemon.socketPath).toBe(expected(env));
      const run = await finish(startVirtlab(['xs', 'list', '/'], env));
      expect(run).toMatchObject({ code: 0, stdout: 'tool\n' });
      expect((await daemon.end('SIGINT')).code).toBe(130);
    }
  });

  it.each([...XENSTORE_PROFILES.keys()])('is %s when asked to', async (profile) => {
    const daemon = await startDaemon(['--socket', fresh('socket'), '--profile', profile]);
    const { socketPath } = daemon;
    expect(await virtlabAt(socketPath, 'xs', 'write', '/a/b', 'x')).toMatchObject({ code: 0, stderr: '' });
    expect(await virtlabAt(socketPath, 'xs', 'read', '/a/b')).toMatchObject({ code: 0, stdout: 'x\n' });
    await daemon.end();
  });

  it('a socket that nobody listens at is taken over; one that is served is refused with 3', async () => {
    const socketPath = fresh('socket');
    const killed = await startDaemon(['--socket', socketPath]);
    await killed.end('SIGKILL');
    expect(existsSync(socketPath)).toBe(true);
    const daemon = await startDaemon(['--socket', socketPath]);
    const second = await finish(startVirtlab(['xenstored', '--socket', socketPath]));
    expect(second).toMatchObject({ code: 3, stdout: '' });
    expect(second.stderr).toMatch(/^virtlab: .*another daemon listens there\n$/);
    expect(await virtlabAt(socketPath, 'xs', 'exists', '/')).toMatchObject({ code: 0 });
    await daemon.end();
  });

  it('SIGTERM during load: every reply that came is true of the dump, and nothing is left', async () => {
    const [socketPath, dump] = [fresh('socket'), fresh('dump')];
    const daemon = await startDaemon(['--socket', socketPath, '--dump', dump]);
    const clients = await Promise.all(Array.from({ length: 4 }, () => connectXenstore(socketPath)));
    const acknowledged = clients.map(() => -1);
    const load = Promise.allSettled(
      clients.map(async (store, index) => {
        for (let value = 0; ; value++) {
          await store.write(`/load/${index}`, String(value));
          acknowledged[index] = value;
        }
      }),
    );
    await vi.waitFor(() => expect(Math.min(...acknowledged)).toBeGreaterThan(50));
    expect((await daemon.end('SIGTERM')).code).toBe(143);
    for (const end of await load) {
      expect(end.status === 'rejected' && end.reason).toBeInstanceOf(XenstoreError);
    }
    expect(existsSync(socketPath)).toBe(false);

    const restored = await startDaemon(['--socket', socketPath, '--restore', dump]);
    for (const [index, value] of acknowledged.entries()) {
      const run = await virtlabAt(socketPath, 'xs', 'read', `/load/${index}`);
      expect(Number(run.stdout)).toBeGreaterThanOrEqual(value);
    }
    await restored.end();
  });

  it('--dump and --restore keep values, permissions and order', async () => {
    const [socketPath, dump] = [fresh('socket'), fresh('dump')];
    const first = await startDaemon(['--socket', socketPath, '--dump', dump]);
    await virtlabAt(socketPath, 'xs', 'write', '/z/1', '\\x00\\xff', '/a/2', 'text');
    await virtlabAt(socketPath, 'xs', 'chmod', '/z/1', 'n3', 'r4', 'w5');
    const before = await virtlabAt(socketPath, 'xs', 'ls', '-fp');
    await first.end();
    const second = await startDaemon(['--socket', socketPath, '--restore', dump]);
    expect(await virtlabAt(socketPath, 'xs', 'ls', '-fp')).toEqual(before);
    await second.end();
  });

  it('SIGHUP opens the access log anew', async () => {
    const [socketPath, log] = [fresh('socket'), fresh('log')];
    const daemon = await startDaemon(['--socket', socketPath, '--access-log', log]);
    await virtlabAt(socketPath, 'xs', 'write', '/first', '1');
    renameSync(log, `${log}.1`);
    daemon.child.kill('SIGHUP');
    await vi.waitFor(() => expect(existsSync(log)).toBe(true));
    await virtlabAt(socketPath, 'xs', 'write', '/second', '1');
    await daemon.end();
    expect(readFileSync(`${log}.1`, 'utf8')).toMatch(/WRITE \/first .*OK/);
    expect(readFileSync(`${log}.1`, 'utf8')).not.toContain('/second');
    expect(readFileSync(log, 'utf8')).toMatch(/WRITE \/second .*OK/);
  });

  it('--trace prints each message on stderr', async () => {
    const daemon = await startDaemon(['--socket', fresh('socket'), '--trace']);
    await virtlabAt(daemon.socketPath, 'xs', 'read', '/tool');
    const { stderr } = await daemon.end();
    expect(stderr).toMatch(/ in .*READ.*\/tool/);
    expect(stderr).toMatch(/ out .*READ/);
  });

  it('goes on when nobody reads its trace any more', async () => {
    const daemon = await startDaemon(['--socket', fresh('socket'), '--trace']);
    daemon.child.stderr!.destroy();
    for (let i = 0; i < 3; i++) {
      expect(await virtlabAt(daemon.socketPath, 'xs', 'read', '/tool')).toMatchObject({ code: 0 });
    }
    expect((await daemon.end()).code).toBe(143);
  });

  it('--force-eagain and --fault make things go wrong', async () => {
    const daemon = await startDaemon([
      '--socket',
      fresh('socket'),
      '--force-eagain',
      '2',
      '--seed',
      '7',
      '--fault',
      'full-quota=watches',
      'full-quota=nodes',
    ]);
    const store = await connectXenstore(daemon.socketPath);
    let attemptCount = 0;
    const run = store.transaction(async (tx) => {
      attemptCount += 1;
      return tx.directory('/');
    });
    expect(await run).toEqual(['tool']);
    expect(attemptCount).toBe(3);
    await expect(store.watch('/x')).rejects.toThrow(/E2BIG/);
    await expect(store.write('/new', '')).rejects.toThrow(/ENOSPC/);
    store.close();
    await daemon.end();
  });

  it('--quota sets limits, the last of a name counts', async () => {
    const daemon = await startDaemon([
      '--socket',
      fresh('socket'),
      '--quota',
      'nodes=5',
      'node-size=100',
      '--quota',
      'nodes=77',
      'path-max=200',
    ]);
    const { stdout } = await virtlabAt(daemon.socketPath, 'xs', 'control', 'quota');
    expect(stdout).toMatch(/^nodes +: +77 /m);
    expect(stdout).toMatch(/^node-size +: +100 /m);
    expect(stdout).toMatch(/^path-max +: +200 /m);
    const store = await connectXenstore(daemon.socketPath);
    expect(await store.isDomainIntroduced(domId(1))).toBe(false);
    store.close();
    await daemon.end();
  });

  it('a dump that cannot be written in the end: exit code 1', async () => {
    const place = fresh('place');
    mkdirSync(place);
    const daemon = await startDaemon(['--socket', fresh('socket'), '--dump', join(place, 'dump')]);
    rmSync(place, { recursive: true });
    const run = await daemon.end();
    expect(run.code).toBe(1);
    expect(run.stderr).toMatch(/virtlab: ENOENT/);
    expect(existsSync(daemon.socketPath)).toBe(false);
  });

  it('a second signal ends it at once', async () => {
    const daemon = await startDaemon(['--socket', fresh('socket')]);
    daemon.child.kill('SIGINT');
    daemon.child.kill('SIGTERM');
    const run = await daemon.run;
    expect([130, 143]).toContain(run.code);
  });

  it('the wrapper of the checkout is the daemon: its signals are the daemon’s', async () => {
    const wrapper = join(import.meta.dirname, '../../bin/virtlab.js');
    const socketPath = fresh('socket');
    const child = startProgram(process.execPath, [wrapper, 'xenstored', '--json', '--socket', socketPath]);
    const run = finish(child);
    const [line] = await lines(child, 1);
    expect(JSON.parse(line!)).toEqual({ socketPath, profile: 'c-4.17', pid: child.pid });
    child.kill('SIGTERM');
    expect((await run).code).toBe(143);
    expect(existsSync(socketPath)).toBe(false);
  });
});
