import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { describeWithFfi } from '@virtlab/linux/testing';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { createRngDriver } from '@virtlab/virtio-rng';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Run, finish, lines, startVirtlab } from '../testing/virtlab.ts';

const MODULES = fileURLToPath(new URL('../../../../node_modules', import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-module-'));
  symlinkSync(MODULES, join(folder, 'node_modules')); // as if virtlab were installed there
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

  it('exports backend: it is a disk, and is closed in the end', async () => {
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
    const disk = await createBlkDriver(link, { aio });
    expect(disk.capacitySectors).toBe(8);
    await disk.close();
    await link[Symbol.asyncDispose]();
    aio[Symbol.dispose]();
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect(code).toBe(143);
    expect(stderr).toContain('closed\n');
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
