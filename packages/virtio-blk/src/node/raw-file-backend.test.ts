import {
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  chmodSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { memoryRegion } from '@virtlab/guest-memory';
import { BACKEND_PENDING, type BlkBackendError } from '../backend.ts';
import { openRawFileBackend, type RawFileBackend, type RawFileBackendOptions } from './raw-file-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtio-blk-'));
const openDescriptors = (): number => readdirSync('/proc/self/fd').length;
const backends: RawFileBackend[] = [];
let count = 0;

function image(bytes: Uint8Array): string {
  count += 1;
  const path = join(folder, `disk-${count}.img`);
  writeFileSync(path, bytes);
  return path;
}

async function open(options: RawFileBackendOptions): Promise<RawFileBackend> {
  const backend = await openRawFileBackend(options);
  backends.push(backend);
  return backend;
}

/** Begins operations and resolves with their statuses, in the order of the tokens 0, 1, 2, … */
async function run(backend: RawFileBackend, ...begin: ((token: number) => number)[]): Promise<number[]> {
  const statuses: number[] = [];
  let pending = 0;
  const done = Promise.withResolvers<void>();
  backend.onComplete((token, status) => {
    statuses[token] = status;
    pending -= 1;
    if (pending === 0) done.resolve();
  });
  for (const [token, start] of begin.entries()) {
    const status = start(token);
    if (status === BACKEND_PENDING) pending += 1;
    else statuses[token] = status;
  }
  backend.submit();
  if (pending > 0) await done.promise;
  backend.onComplete(undefined);
  return statuses;
}

const pattern = (size: number, seed: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, at) => (at * 7 + seed + (at >> 8)) & 0xff);

afterEach(async () => {
  for (const backend of backends.splice(0)) await backend.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

describe.each(['sync', 'threads'] as const)('raw file backend, io %s', (io) => {
  it('moves bytes between the file and guest memory at the right place', async () => {
    const contents = pattern(16 * 512, 3);
    const path = image(contents);
    const backend = await open({ path, io });
    const guest = memoryRegion(new ArrayBuffer(65536));
    guest.u8.set(pattern(1024, 99), 8);
    expect(backend.capacitySectors).toBe(16);
    const statuses = await run(
      backend,
      (token) => backend.read(guest, 4096, 2048, 512, token),
      (token) => backend.write(guest, 8, 700, 8 * 512, token),
      (token) => backend.write(guest, 708, 324, 8 * 512 + 700, token),
      (token) => backend.writeZeroes(12 * 512, 1024, true, token),
    );
    expect(statuses).toEqual([VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK]);
    expect(Buffer.from(guest.u8.subarray(4096, 6144)).equals(contents.subarray(512, 2560))).toBe(true);
    contents.set(pattern(1024, 99), 8 * 512);
    contents.fill(0, 12 * 512, 14 * 512);
    expect(readFileSync(path).equals(contents)).toBe(true);
  });

  it('works on shared memory, as that of a domain is', async () => {
    const path = image(pattern(1024, 1));
    const backend = await open({ path, io });
    const guest = memoryRegion(new SharedArrayBuffer(4096));
    await run(backend, (token) => backend.read(guest, 512, 1024, 0, token));
    expect(Buffer.from(guest.u8.slice(512, 1536)).equals(pattern(1024, 1))).toBe(true);
  });

  it('writes zeroes over more than it keeps zeroes for', async () => {
    const path = image(new Uint8Array(400 * 512).fill(0xee));
    const backend = await open({ path, io });
    expect(await run(backend, (token) => backend.writeZeroes(512, 398 * 512, false, token))).toEqual([
      VIRTIO_BLK_S_OK,
    ]);
    const after = readFileSync(path);
    expect([after[511], after[512], after[399 * 512 - 1], after[399 * 512]]).toEqual([0xee, 0, 0, 0xee]);
    expect(after.subarray(512, 399 * 512).every((byte) => byte === 0)).toBe(true);
  });

  it('acknowledges a flush only later, and the data is in the file then', async () => {
    const path = image(new Uint8Array(4096));
    const backend = await open({ path, io });
    const guest = memoryRegion(new ArrayBuffer(4096));
    guest.u8.fill(0x5a);
    await run(backend, (token) => backend.write(guest, 0, 4096, 0, token));
    const order: string[] = [];
    const flushed = run(backend, (token) => {
      const status = backend.flush(token);
      order.push(status === BACKEND_PENDING ? 'pending' : 'ended');
      return status;
    });
    backend.submit();
    order.push('submitted');
    expect(await flushed).toEqual([VIRTIO_BLK_S_OK]);
    expect(order).toEqual(['pending', 'submitted']);
    expect(readFileSync(path).every((byte) => byte === 0x5a)).toBe(true);
    expect(backend.statistics).toMatchObject({ flushes: 1, syncs: 1, failures: 0 });
  });

  it('full disk: the write fails with IOERR, is counted and named, and reads go on', async () => {
    const errors: BlkBackendError[] = [];
    const path = '/dev/full';
    const backend = await open({ path, io, capacitySectors: 64, onError: (error) => errors.push(error) });
    const guest = memoryRegion(new ArrayBuffer(4096));
    guest.u8.fill(1);
    expect(await run(backend, (token) => backend.write(guest, 0, 512, 0, token))).toEqual([
      VIRTIO_BLK_S_IOERR,
    ]);
    expect(await run(backend, (token) => backend.writeZeroes(0, 512, true, token))).toEqual([
      VIRTIO_BLK_S_IOERR,
    ]);
    expect(await run(backend, (token) => backend.read(guest, 0, 512, 0, token))).toEqual([VIRTIO_BLK_S_OK]);
    expect(errors.map(({ code, operation, path: name }) => ({ code, operation, name }))).toEqual([
      { code: 'ENOSPC', operation: 'write', name: path },
      { code: 'ENOSPC', operation: 'write', name: path },
    ]);
    expect(backend.statistics).toMatchObject({ failures: 2, diskFull: 2 });
  });

  it('a flush that the file cannot do fails, and so does every later one', async () => {
    const backend = await open({ path: '/dev/full', io, capacitySectors: 64 });
    const flush = (token: number): number => backend.flush(token);
    expect(await run(backend, flush)).toEqual([VIRTIO_BLK_S_IOERR]);
    expect(await run(backend, flush)).toEqual([VIRTIO_BLK_S_IOERR]);
    expect(backend.statistics).toMatchObject({ failures: 1, syncs: 1, flushes: 2 });
  });

  it('a file truncated while in use gives IOERR, not made-up zeroes', async () => {
    const errors: BlkBackendError[] = [];
    const path = image(new Uint8Array(4096).fill(9));
    const backend = await open({ path, io, onError: (error) => errors.push(error) });
    truncateSync(path, 1000);
    const guest = memoryRegion(new ArrayBuffer(4096));
    expect(await run(backend, (token) => backend.read(guest, 0, 2048, 0, token))).toEqual([
      VIRTIO_BLK_S_IOERR,
    ]);
    expect(errors).toMatchObject([{ code: 'EIO', operation: 'read', path }]);
  });

  it('opened read-only it neither writes nor zeroes', async () => {
    const path = image(new Uint8Array(1024).fill(4));
    const backend = await open({ path, io, readOnly: true });
    const guest = memoryRegion(new ArrayBuffer(4096));
    const statuses = await run(
      backend,
      (token) => backend.write(guest, 0, 512, 0, token),
      (token) => backend.writeZeroes(0, 512, true, token),
      (token) => backend.read(guest, 0, 512, 0, token),
    );
    expect(statuses).toEqual([VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK]);
    expect(readFileSync(path).every((byte) => byte === 4)).toBe(true);
  });

  it('close waits for an operation that takes several writes', async () => {
    const path = image(new Uint8Array(1 << 20).fill(1));
    const backend = await openRawFileBackend({ path, io });
    const ended: number[] = [];
    backend.onComplete((_token, status) => ended.push(status));
    const status = backend.writeZeroes(0, 1 << 20, true, 0);
    await backend.close();
    expect(ended).toEqual(status === BACKEND_PENDING ? [VIRTIO_BLK_S_OK] : []);
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
  });

  it('close waits for what is in flight and closes the file', async () => {
    const before = openDescriptors();
    const size = 64 * 4096;
    const path = image(new Uint8Array(size));
    const backend = await openRawFileBackend({ path, io });
    expect(openDescriptors()).toBe(before + 1);
    const guest = memoryRegion(new ArrayBuffer(size));
    guest.u8.fill(6);
    const ended: number[] = [];
    backend.onComplete((token, status) => ended.push(status));
    const statuses = Array.from({ length: 64 }, (_, token) =>
      backend.write(guest, token * 4096, 4096, token * 4096, token),
    );
    await Promise.all([backend.close(), backend.close()]);
    const pending = statuses.filter((status) => status === BACKEND_PENDING);
    expect(ended).toEqual(pending.map(() => VIRTIO_BLK_S_OK));
    expect(readFileSync(path).every((byte) => byte === 6)).toBe(true);
    expect(openDescriptors()).toBe(before);
  });
});

it('close waits for a flush', async () => {
  const backend = await openRawFileBackend({ path: image(new Uint8Array(512)) });
  const ended: number[] = [];
  backend.onComplete((token) => ended.push(token));
  backend.flush(4);
  await backend.close();
  expect(ended).toEqual([4]);
});

describe('opening an image', () => {
  it('takes whole sectors of the file', async () => {
    expect((await open({ path: image(new Uint8Array(5 * 512 + 100)) })).capacitySectors).toBe(5);
    expect((await open({ path: image(new Uint8Array(5 * 512)), capacitySectors: 3 })).capacitySectors).toBe(
      3,
    );
  });

  it('creates a missing image when told to, and takes an existing one as it is', async () => {
    const path = join(folder, 'created.img');
    await (await openRawFileBackend({ path, createSize: 1 << 20 })).close();
    expect(statSync(path).size).toBe(1 << 20);
    const again = await open({ path, createSize: 4096 });
    expect(again.capacitySectors).toBe(2048);
  });

  it('opens the file that a descriptor has, whatever is at its path by now, apart from it', async () => {
    const path = image(new Uint8Array(512).fill(1));
    const held = await openRawFileBackend({ path });
    renameSync(image(new Uint8Array(1024).fill(2)), path);
    const again = await open({ path, heldFd: held.fd });
    await held.close();
    const guest = memoryRegion(new ArrayBuffer(512));
    await run(again, (token) => again.read(guest, 0, 512, 0, token));
    expect([again.path, again.capacitySectors, guest.u8[511]]).toEqual([path, 1, 1]);
    const closed = openRawFileBackend({ path, heldFd: held.fd });
    await expect(closed).rejects.toMatchObject({ code: 'ENOENT', path });
  });

  const refused: [string, () => RawFileBackendOptions, string][] = [
    ['a missing file', () => ({ path: join(folder, 'missing.img') }), 'ENOENT'],
    ['a missing folder', () => ({ path: join(folder, 'no', 'disk.img'), createSize: 4096 }), 'ENOENT'],
    ['a path through a file', () => ({ path: join(image(new Uint8Array(512)), 'x') }), 'ENOTDIR'],
    ['a folder', () => ({ path: folder }), 'EISDIR'],
    ['a folder, read-only', () => ({ path: folder, readOnly: true }), 'EISDIR'],
    ['a file of less than a sector', () => ({ path: image(new Uint8Array(511)) }), 'EINVAL'],
    ['an empty file', () => ({ path: image(new Uint8Array(0)) }), 'EINVAL'],
    [
      'less than the capacity asked for',
      () => ({ path: image(new Uint8Array(1024)), capacitySectors: 3 }),
      'EINVAL',
    ],
    ['a device without a capacity', () => ({ path: '/dev/full' }), 'EINVAL'],
    ['a program that is running', () => ({ path: process.execPath }), 'ETXTBSY'],
  ];
  it.each(refused)('refuses %s and leaves nothing open', async (_what, options, code) => {
    const settled = options();
    const before = openDescriptors();
    await expect(openRawFileBackend(settled)).rejects.toMatchObject({
      name: 'BlkBackendError',
      code,
      path: settled.path,
    });
    expect(openDescriptors()).toBe(before);
  });

  it.skipIf(process.getuid?.() === 0)(
    'refuses a file that may not be read (not as root: root may)',
    async () => {
      const path = image(new Uint8Array(512));
      chmodSync(path, 0);
      await expect(openRawFileBackend({ path })).rejects.toMatchObject({ code: 'EACCES' });
    },
  );

  it.each([{ blockSize: 100 }, { createSize: 100 }, { createSize: 4096, readOnly: true }])(
    'throws RangeError for %o',
    async (options) => {
      await expect(openRawFileBackend({ path: join(folder, 'never.img'), ...options })).rejects.toThrow(
        RangeError,
      );
    },
  );
});
