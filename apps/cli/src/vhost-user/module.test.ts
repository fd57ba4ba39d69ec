import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { describeWithFfi } from '@virtlab/linux/testing';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { createRngDriver } from '@virtlab/virtio-rng';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Run, finish, lines, startVirtlab } from '../testing/virtlab.ts';
import { adviceFor } from './own-packages.ts';

/** Far from any `node_modules` that has virtlab. */
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-module-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);

function moduleOf(...code: readonly string[]): string {
  const path = fresh('device.ts');
  writeFileSync(path, code.join('\n'));
  return path;
}

const run = (...args: readonly string[]): Promise<Run> =>
  finish(startVirtlab(['vhost-user-device', '--socket-path', fresh('s'), ...args]));

/** A device in which something is wrong. */
function deviceWith(wrong: string): string {
  const members =
    'deviceType: 4, features: 0n, queueSizesMax: [8], configSize: 0, readConfig() {}, activate() {}';
  return moduleOf(
    `export const createDevice = () => ({ ${members}, processQueue() {}, reset() {}, ${wrong} });`,
  );
}

vi.setConfig({ testTimeout: 60_000 });

describeWithFfi('a device of the user’s own', () => {
  it('exports createDevice: the device is served in its thread, under the types that Node strips', async () => {
    const socket = fresh('s');
    const module = moduleOf(
      "import { createRngDevice } from '@virtlab/virtio-rng';",
      "import { isMainThread } from 'node:worker_threads';",
      "import type { VirtioDevice } from '@virtlab/virtio';",
      'export async function createDevice(): Promise<VirtioDevice> {',
      '  return createRngDevice({ source: { fill: (bytes: Uint8Array) => void bytes.fill(isMainThread ? 1 : 2) } });',
      '}',
    );
    const child = startVirtlab(['vhost-user-device', '--socket-path', socket, module]);
    const ended = finish(child);
    expect(await lines(child, 1)).toEqual([`vhost-user-device listens at ${socket}`]);
    const aio = createNodeAioContext();
    const link = await connectVhostUser({ path: socket, aio, deviceType: VIRTIO_ID_RNG, queueSizeMax: 8 });
    const driver = await createRngDriver(link, { aio });
    const bytes = new Uint8Array(16);
    expect(await driver.read(bytes)).toBe(16);
    expect([...bytes]).toEqual(Array<number>(16).fill(2));
    await driver.stop();
    await link[Symbol.asyncDispose]();
    aio[Symbol.dispose]();
    child.kill('SIGTERM');
    expect((await ended).code).toBe(143);
  });

  it('exports backend: it is a disk with queues for every processor of a guest, and is closed in the end', async () => {
    const socket = fresh('s');
    const module = moduleOf(
      "import { createNullBackend } from '@virtlab/virtio-blk';",
      'const nothing = createNullBackend({ capacitySectors: 8 });',
      "export const backend = { ...nothing, close: async () => console.error('closed') };",
    );
    const child = startVirtlab(['vhost-user-device', '--socket-path', socket, module]);
    const ended = finish(child);
    await lines(child, 1);
    const aio = createNodeAioContext();
    const link = await connectVhostUser({ path: socket, aio, deviceType: VIRTIO_ID_BLOCK });
    expect(link.transport.queueCount).toBe(64);
    const disk = await createBlkDriver(link, { aio, queueCount: 64 });
    expect(disk.capacitySectors).toBe(8);
    const reads = Array.from({ length: 64 }, (_, sector) => disk.read(sector % 8, new Uint8Array(512)));
    await Promise.all(reads);
    await disk.close();
    await link[Symbol.asyncDispose]();
    aio[Symbol.dispose]();
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect(code).toBe(143);
    expect(stderr).toContain('closed\n');
  });
});

describe('what a module asks of @virtlab', () => {
  const listensAt = async (file: string): Promise<string> => {
    const child = startVirtlab(['vhost-user-device', '--socket-path', fresh('s'), file]);
    const ended = finish(child);
    await lines(child, 1);
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    return `${code} ${stderr}`;
  };

  it('is the command’s own for what the module itself imports, and for CommonJS', async () => {
    const parts = fresh('parts');
    mkdirSync(parts);
    writeFileSync(
      join(parts, 'make.cjs'),
      "module.exports = require('@virtlab/virtio-blk').createNullBackend;",
    );
    const main = join(parts, 'disk.ts');
    writeFileSync(
      main,
      "import make from './make.cjs'; export const backend = make({ capacitySectors: 8 });",
    );
    expect(await listensAt(main)).toBe('143 virtlab: shutting down\n');
  });

  it('is what is installed beside the module, where there is such a package', async () => {
    const place = fresh('installed');
    const own = join(place, 'node_modules/@virtlab/virtio-blk');
    mkdirSync(own, { recursive: true });
    writeFileSync(join(own, 'package.json'), '{ "type": "module", "exports": "./index.js" }');
    writeFileSync(join(own, 'index.js'), "throw new Error('of its own');");
    const main = join(place, 'disk.ts');
    writeFileSync(main, "import '@virtlab/virtio-blk';");
    expect(await listensAt(main)).toMatch(/^2 .*of its own/);
  });

  it('has to be beside it under a Node without hooks, and the message says so', () => {
    const missing = Object.assign(new Error("Cannot find package '@virtlab/abi'"), {
      code: 'ERR_MODULE_NOT_FOUND',
    });
    expect(adviceFor(missing, {})).toContain("install virtlab's there, or use Node 22.15");
    expect(adviceFor(missing)).toBeUndefined();
    expect(adviceFor(new Error('@virtlab/abi'), {})).toBeUndefined();
  });
});

/** Told before anybody connects. */
const REFUSED: readonly (readonly [what: string, args: () => readonly string[], message: RegExp])[] = [
  ['no module', () => [], /give the module that makes the device/],
  ['a module that is not there', () => [join(folder, 'none.ts')], /none\.ts: there is no such file/],
  ['a directory', () => [folder], /is no file/],
  [
    'no such export',
    () => [moduleOf('export const disk = 1;')],
    /export either createDevice or backend; it exports disk/,
  ],
  ['both exports', () => [moduleOf('export const backend = {}, createDevice = 1;')], /export either/],
  [
    'an import that is not there',
    () => [moduleOf("import '@virtlab/nowhere';")],
    /cannot be loaded: .*@virtlab\/nowhere/,
  ],
  [
    'a syntax that stripping cannot do',
    () => [moduleOf('enum A { B }')],
    /cannot be loaded: [^]*enum is not supported/,
  ],
  ['what is no function', () => [moduleOf('export const createDevice = 5;')], /createDevice is no function/],
  [
    'a maker that throws',
    () => [moduleOf("export const createDevice = () => { throw new Error('no luck'); };")],
    /no luck/,
  ],
  [
    'a maker of nothing',
    () => [moduleOf('export const createDevice = () => null;')],
    /createDevice\(\) is null, not an object/,
  ],
  [
    'a device without a method',
    () => [deviceWith('reset: undefined')],
    /reset of createDevice\(\) is missing, not a function/,
  ],
  [
    'features that are no bits',
    () => [deviceWith('features: 3')],
    /features of createDevice\(\) is a number, not a bigint/,
  ],
  [
    'a feature that is the transport’s',
    () => [deviceWith('features: 1n << 40n')],
    /Feature bit 40 is not a device's to offer/,
  ],
  ['a queue size', () => [deviceWith('queueSizesMax: [3]')], /Queue size 3 is not 0 or a power of two/],
  [
    'queues that are no list',
    () => [deviceWith('queueSizesMax: 8')],
    /queueSizesMax of createDevice\(\) is a number/,
  ],
  [
    'half a disk',
    () => [moduleOf('export const backend = { capacitySectors: 8 };')],
    /of backend is missing, not a .*BlockBackend/,
  ],
];

it.each(REFUSED)('refused with exit code 2: %s', async (_, args, message) => {
  const { code, stdout, stderr } = await run(...args());
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/node:internal/);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
});
