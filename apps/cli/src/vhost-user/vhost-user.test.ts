import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { UnixStream, UnixStreamServer, closeFd, socketPair } from '@virtlab/linux';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Run, finish, lines, startProgram, startVirtlab } from '../testing/virtlab.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-vhost-user-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);
const run = (...args: readonly string[]): Promise<Run> => finish(startVirtlab(args));

describe('the conventions of backend programs', { timeout: 60_000 }, () => {
  it.each(['blk', 'net', 'rng'])(
    '--print-capabilities of %s, and the file for management layers',
    async (kind) => {
      const { code, stdout } = await run(`vhost-user-${kind}`, '--print-capabilities');
      expect(code).toBe(0);
      const share = join(import.meta.dirname, `../../share/vhost-user/50-virtlab-${kind}.json`);
      const { description, binary, ...capabilities } = JSON.parse(readFileSync(share, 'utf8')) as Record<
        string,
        string
      >;
      expect(JSON.parse(stdout)).toEqual(capabilities);
      expect(description).toContain(`virtlab vhost-user-${kind}`);
      const program = join(import.meta.dirname, `../../bin/${binary!.split('/').at(-1)}.js`);
      const byName = spawnSync(process.execPath, [program, '--print-capabilities'], { encoding: 'utf8' });
      expect(byName.stdout).toBe(stdout);
    },
  );

  it.each(['poll', 'events'])(
    'it stays in the foreground, and SIGTERM removes the socket, --loop %s',
    async (loop) => {
      const socket = fresh('s');
      const child = startVirtlab(['vhost-user-rng', '--socket-path', socket, '--loop', loop]);
      const ended = finish(child);
      expect(await lines(child, 1)).toEqual([`vhost-user-rng listens at ${socket}`]);
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      child.kill('SIGTERM');
      expect(await ended).toMatchObject({ code: 143, stderr: 'virtlab: shutting down\n' });
      expect(existsSync(socket)).toBe(false);
    },
  );

  it('SIGINT ends it with 130; a socket that a killed one left is taken over', async () => {
    const socket = fresh('s');
    for (const [signal, code] of [
      ['SIGKILL', null],
      ['SIGINT', 130],
    ] as const) {
      const child = startVirtlab(['vhost-user-rng', '-s', socket]);
      const ended = finish(child);
      await lines(child, 1);
      child.kill(signal);
      expect((await ended).code).toBe(code);
    }
  });

  it('--fd is a connection that was inherited: the daemon ends with it', async () => {
    const [ours, theirs] = socketPair();
    const args = ['--conditions=@virtlab/source', join(import.meta.dirname, '../main.ts')];
    const options = ['vhost-user-blk', '--json', '--fd', '3', '--backend', 'memory', '--size', '1M'];
    const child = spawn(process.execPath, [...args, ...options], {
      stdio: ['ignore', 'pipe', 'pipe', theirs],
    });
    const ended = finish(child);
    closeFd(theirs);
    const aio = createNodeAioContext();
    const link = await connectVhostUser({ fd: ours, aio, deviceType: VIRTIO_ID_BLOCK });
    const driver = await createBlkDriver(link, { aio });
    expect(driver.capacitySectors).toBe(2048);
    await driver.write(1, new Uint8Array(512).fill(7));
    const target = new Uint8Array(512);
    await driver.read(1, target);
    expect(target[511]).toBe(7);
    await driver.close();
    await link[Symbol.asyncDispose]();
    aio[Symbol.dispose]();
    const { code, stdout, stderr } = await ended;
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(
      /"event":"connected"[^]*"event":"disconnected","socket":"fd 3"[^]*"event":"closed"/,
    );
  });
});

describe('what is no driver', { timeout: 60_000 }, () => {
  it('ends its connection with a sentence, and the next is served', async () => {
    const socket = fresh('s');
    const child = startVirtlab(['vhost-user-rng', '--json', '--socket-path', socket]);
    const ended = finish(child);
    const listening = await lines(child, 1);
    expect(JSON.parse(listening[0]!)).toEqual({ event: 'listening', sockets: [socket], pid: child.pid });
    const descriptors = (): number => readdirSync(`/proc/${child.pid}/fd`).length;
    const before = descriptors();
    for (let round = 0; round < 3; round += 1) {
      const stream = UnixStream.connect(socket);
      const closed = new Promise((resolve) => stream.onClose(resolve));
      stream.onData(() => {});
      stream.send(new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n'));
      await closed;
    }
    await vi.waitFor(() => expect(descriptors()).toBe(before));
    child.kill('SIGTERM');
    const { stdout } = await ended;
    const reasons = stdout.match(/"event":"disconnected"[^\n]*"reason":"[A-Z_]+: /g);
    expect(reasons).toHaveLength(3);
  });
});

describe('virtlab vhost-user-net', { timeout: 60_000 }, () => {
  it('--switch: the first daemon listens for the others, whoever goes and comes back', async () => {
    const env = { XDG_RUNTIME_DIR: folder };
    const start = (): ReturnType<typeof startVirtlab> =>
      startVirtlab(['vhost-user-net', '--json', '-s', fresh('s'), '--switch', 'lan-0'], env);
    const first = start();
    await lines(first, 1);
    const second = start();
    let text = '';
    second.stdout!.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await vi.waitFor(() => expect(text).toMatch(/"joined".*switch-lan-0/), { timeout: 20_000 });
    const firstEnded = finish(first);
    first.kill('SIGKILL');
    await firstEnded;
    await vi.waitFor(() => expect(text).toMatch(/"left"/), { timeout: 20_000 });
    // Now it is the second that listens, sooner or later.
    await vi.waitFor(
      () => {
        UnixStream.connect(join(folder, 'virtlab/switch-lan-0')).close();
      },
      { timeout: 20_000 },
    );
    const secondEnded = finish(second);
    second.kill('SIGTERM');
    expect((await secondEnded).code).toBe(143);
  });

  it('--stream connects where somebody listens', async () => {
    const path = fresh('stream');
    const { promise, resolve } = Promise.withResolvers<UnixStream>();
    const server = UnixStreamServer.listen(path, resolve);
    const child = startProgram(process.execPath, [
      '--conditions=@virtlab/source',
      join(import.meta.dirname, '../main.ts'),
      'vhost-user-net',
      '-s',
      fresh('a'),
      '-s',
      fresh('b'),
      '--stream',
      path,
    ]);
    const ended = finish(child);
    const stream = await promise;
    expect(await lines(child, 1)).toEqual([expect.stringMatching(/^vhost-user-net listens at .*-a, .*-b$/)]);
    stream.close();
    server.close();
    child.kill('SIGTERM');
    expect((await ended).code).toBe(143);
  });
});
