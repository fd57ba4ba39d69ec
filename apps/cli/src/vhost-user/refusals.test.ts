import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Run, finish, lines, startVirtlab } from '../testing/virtlab.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-vhost-user-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);
const run = (...args: readonly string[]): Promise<Run> => finish(startVirtlab(args));

function image(size = 1 << 20): string {
  const path = fresh('disk');
  writeFileSync(path, new Uint8Array(size));
  return path;
}

/** A name that nobody, not even root, can follow. */
function loop(): string {
  const path = fresh('loop');
  symlinkSync(path, path);
  return path;
}

function pipe(): string {
  const path = fresh('pipe');
  execFileSync('mkfifo', [path]);
  return path;
}

/** What goes wrong before anything is served. */
const REFUSED: readonly (readonly [
  what: string,
  args: () => readonly string[],
  code: number,
  message: RegExp,
])[] = [
  ['no place', () => ['vhost-user-blk'], 2, /give --socket-path, or --fd/],
  ['two places', () => ['vhost-user-blk', '--fd', '3', '-s', fresh('s')], 2, /give --socket-path, or --fd/],
  [
    'two sockets of a disk',
    () => ['vhost-user-blk', '-s', fresh('s'), '-s', fresh('s')],
    2,
    /serves 1 socket/,
  ],
  ['no directory', () => ['vhost-user-rng', '-s', fresh('no/s')], 2, /there is no directory/],
  [
    'a long path',
    () => ['vhost-user-rng', '-s', fresh('s'.repeat(120))],
    2,
    /bytes are more than a socket's path/,
  ],
  ['a descriptor that is not open', () => ['vhost-user-rng', '--fd', '77'], 2, /--fd 77 is not open/],
  ['a descriptor that is no socket', () => ['vhost-user-rng', '--fd', '0'], 2, /--fd 0 is no socket/],
  ['no image', () => ['vhost-user-blk', '-s', fresh('s')], 2, /--backend raw needs --blk-file/],
  [
    'no such image',
    () => ['vhost-user-blk', '-s', fresh('s'), '-b', fresh('none')],
    2,
    /there is no such file/,
  ],
  [
    'an image that is cut off',
    () => ['vhost-user-blk', '-s', fresh('s'), '-b', image(1000)],
    2,
    /1000 bytes are not a multiple of 512/,
  ],
  [
    'an empty image',
    () => ['vhost-user-blk', '-s', fresh('s'), '-b', image(0)],
    2,
    /0 bytes are not a multiple/,
  ],
  ['a directory', () => ['vhost-user-blk', '-s', fresh('s'), '-b', folder], 2, /^virtlab: EISDIR: /],
  [
    'a size that is not one',
    () => ['vhost-user-blk', '-s', fresh('s'), '--backend', 'null', '--size', '1000'],
    2,
    /--size 1000 is not a multiple of 512/,
  ],
  [
    'memory of no size',
    () => ['vhost-user-blk', '-s', fresh('s'), '--backend', 'memory'],
    2,
    /--backend memory needs --size, or --blk-file/,
  ],
  [
    'a long serial',
    () => ['vhost-user-blk', '-s', fresh('s'), '-b', image(), '--serial', 'x'.repeat(21)],
    2,
    /--serial .*at most 20/,
  ],
  [
    'more threads than queues',
    () => ['vhost-user-blk', '-s', fresh('s'), '-b', image(), '--num-queues', '2', '--threads', '3'],
    2,
    /--threads 3 are more than the queues/,
  ],
  [
    'a queue size',
    () => ['vhost-user-blk', '-s', fresh('s'), '--queue-size', '100'],
    2,
    /not a power of two/,
  ],
  [
    'a MAC',
    () => ['vhost-user-net', '-s', fresh('s'), '--mac', '01:00:00:00:00:01'],
    2,
    /address of a station/,
  ],
  ['an MTU', () => ['vhost-user-net', '-s', fresh('s'), '--mtu', '67'], 2, /not from 68 to 65535/],
  ['a switch', () => ['vhost-user-net', '-s', fresh('s'), '--switch', 'a/b'], 2, /--switch a\/b/],
  ['an interface', () => ['vhost-user-net', '-s', fresh('s'), '--tap', 'a/b'], 2, /--tap a\/b/],
  [
    'a MAC that does not count up so far',
    () => ['vhost-user-net', '-s', fresh('s'), '-s', fresh('s'), '--mac', '00:00:00:00:00:ff'],
    2,
    /^virtlab: --mac 00:00:00:00:00:ff: .* 2 cards/,
  ],
  [
    'a stream to itself',
    () => ['vhost-user-net', '-s', fresh('s'), '--stream', `${folder}/a`, '--stream', `${folder}/./a`],
    2,
    /^virtlab: --stream .*given twice/,
  ],
  [
    'a directory that cannot be seen',
    () => ['vhost-user-rng', '-s', join(loop(), 's')],
    2,
    /^virtlab: --socket-path .*cannot be seen \(ELOOP\)/,
  ],
  [
    'a module that cannot be seen',
    () => ['vhost-user-device', '-s', fresh('s'), join(loop(), 'm.ts')],
    2,
    /^virtlab: .*cannot be seen \(ELOOP\)/,
  ],
  [
    'a capture into a pipe that nobody reads',
    () => ['vhost-user-net', '-s', fresh('s'), '--pcap', pipe()],
    2,
    /^virtlab: --pcap .*a pipe that nobody reads/,
  ],
  [
    'more memory than there is',
    () => ['vhost-user-blk', '-s', fresh('s'), '--backend', 'memory', '--size', '1000T'],
    3,
    /^virtlab: --size: there are no 1099511627776000 bytes/,
  ],
];

describe('what cannot be served is refused', { timeout: 60_000 }, () => {
  it.each(REFUSED)('%s', async (_, args, code, message) => {
    const ended = await run(...args());
    expect(ended).toMatchObject({ code, stdout: '' });
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).not.toMatch(/ at .*\.ts:\d/);
  });

  it('a runtime directory that is none: 2', async () => {
    const args = ['vhost-user-net', '-s', fresh('s'), '--switch', 'x'];
    const ended = await finish(startVirtlab(args, { XDG_RUNTIME_DIR: image() }));
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toMatch(/^virtlab: --switch x: there can be no directory .* \(ENOTDIR\)\n$/);
  });

  it('a socket that somebody listens at, and a file that is served already: 3', async () => {
    const [socket, disk] = [fresh('s'), image()];
    const child = startVirtlab(['vhost-user-blk', '--socket-path', socket, '--blk-file', disk]);
    const ended = finish(child);
    await lines(child, 1);
    const inUse = await run('vhost-user-rng', '--socket-path', socket);
    expect(inUse).toMatchObject({ code: 3, stdout: '' });
    expect(inUse.stderr).toMatch(/^virtlab: .*somebody listens at/);
    const locked = await run('vhost-user-blk', '--socket-path', fresh('s'), '--blk-file', disk);
    expect(locked).toMatchObject({ code: 3, stdout: '' });
    expect(locked.stderr).toMatch(/^virtlab: .*is locked: somebody else uses it/);
    child.kill('SIGTERM');
    await ended;
  });
});
