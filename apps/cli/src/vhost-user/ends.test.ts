import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UnixStream } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Run, finish, lines, startVirtlab } from '../testing/virtlab.ts';

const MODULES = fileURLToPath(new URL('../../../../node_modules', import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-ends-'));
  symlinkSync(MODULES, join(folder, 'node_modules')); // as if virtlab were installed there
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);

/** A device that does something else besides. */
function moduleOf(beforeDevice: string): string {
  const path = fresh('device.ts');
  const code = [
    "import { createRngDevice } from '@virtlab/virtio-rng';",
    "import { existsSync, writeSync } from 'node:fs';",
    "import { parentPort } from 'node:worker_threads';",
    'export async function createDevice() {',
    beforeDevice,
    '  return createRngDevice({ source: { fill: (bytes: Uint8Array) => void bytes.fill(1) } });',
    '}',
  ];
  writeFileSync(path, code.join('\n'));
  return path;
}

interface Daemon {
  readonly child: ChildProcess;
  readonly socket: string;
  readonly ended: Promise<Run>;
}

function start(command: string, ...args: readonly string[]): Daemon {
  const socket = fresh('s');
  const child = startVirtlab([command, '--socket-path', socket, '--json', ...args]);
  return { child, socket, ended: finish(child) };
}

/** Resolves when it has said that on stderr. */
async function says({ child, ended }: Daemon, word: string): Promise<void> {
  let text = '';
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.stderr!.on('data', (chunk: string) => {
    text += chunk;
    if (text.includes(word)) resolve();
  });
  void ended.then((run) => reject(new Error(JSON.stringify(run))));
  await promise;
}

vi.setConfig({ testTimeout: 60_000 });

describeWithFfi('however a daemon ends, it has the exit code of that, and its socket is gone', () => {
  it.each([
    ['one thread', 'vhost-user-rng', []],
    [
      'several threads',
      'vhost-user-blk',
      ['--backend', 'null', '--size', '1M', '--num-queues', '2', '--threads', '2'],
    ],
  ])('141 in order, when whoever read its output goes: %s', async (_, command, args) => {
    const daemon = start(command, ...args);
    await lines(daemon.child, 1);
    daemon.child.stdout!.destroy();
    // To have something to say; the thread watches the connection then.
    const stream = UnixStream.connect(daemon.socket);
    stream.onData(() => {});
    expect(await daemon.ended).toMatchObject({ code: 141, signal: null, stderr: '' });
    expect(existsSync(daemon.socket)).toBe(false);
    stream.close();
  });

  it('at once by a second signal, while its thread does not answer', async () => {
    const stuck =
      'setTimeout(() => {writeSync(2, "stuck"); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)});';
    const daemon = start('vhost-user-device', moduleOf(stuck));
    await Promise.all([lines(daemon.child, 1), says(daemon, 'stuck')]);
    expect(existsSync(daemon.socket)).toBe(true);
    const told = says(daemon, 'shutting down');
    daemon.child.kill('SIGTERM');
    await told;
    daemon.child.kill('SIGINT');
    expect(await daemon.ended).toMatchObject({ code: 130, signal: null });
    expect(existsSync(daemon.socket)).toBe(false);
  });

  it('1 by what a module throws that nobody catches, which is told', async () => {
    const throws = `
      const wait = () => void (existsSync(import.meta.filename + '.go') ? fail() : setTimeout(wait, 5));
      const fail = () => { throw new Error('on purpose'); };
      wait();`;
    const module = moduleOf(throws);
    const daemon = start('vhost-user-device', module);
    await lines(daemon.child, 1);
    expect(existsSync(daemon.socket)).toBe(true);
    writeFileSync(`${module}.go`, '');
    const { code, signal, stderr } = await daemon.ended;
    expect({ code, signal, stderr }).toEqual({
      code: 1,
      signal: null,
      stderr: expect.stringMatching(/^virtlab: Error: on purpose\n/),
    });
    expect(existsSync(daemon.socket)).toBe(false);
  });

  it('143 by a signal while it starts: nothing listens after that', async () => {
    const module = moduleOf(
      "writeSync(2, 'starting'); await new Promise((resolve) => parentPort.once('message', resolve));",
    );
    const daemon = start('vhost-user-device', module);
    await says(daemon, 'starting');
    daemon.child.kill('SIGTERM');
    expect(await daemon.ended).toMatchObject({ code: 143, stdout: '{"event":"closed"}\n' });
    expect(existsSync(daemon.socket)).toBe(false);
  });

  it('1 by a signal when its module never makes the device, after a while', async () => {
    const daemon = start(
      'vhost-user-device',
      moduleOf("writeSync(2, 'starting'); await new Promise(() => {});"),
    );
    await says(daemon, 'starting');
    daemon.child.kill('SIGTERM');
    const { code, stderr } = await daemon.ended;
    expect([code, stderr]).toEqual([1, expect.stringMatching(/the device has not ended within 5 s\n$/)]);
    expect(existsSync(daemon.socket)).toBe(false);
  });
});
