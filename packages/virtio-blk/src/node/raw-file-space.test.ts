import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { memoryRegion } from '@virtlab/guest-memory';
import { describeWithFfi } from '@virtlab/linux/testing';
import { BACKEND_PENDING, type BlkBackendError } from '../backend.ts';
import { BlockVector } from '../block-vector.ts';
import { openRawFileBackend, type RawFileBackend, type RawFileBackendOptions } from './raw-file-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtio-blk-space-'));
const SIZE = 1 << 20;
let path = '';
let count = 0;
const backends: RawFileBackend[] = [];

async function open(options: Partial<RawFileBackendOptions> = {}): Promise<RawFileBackend> {
  const backend = await openRawFileBackend({ path, ...options });
  backends.push(backend);
  return backend;
}

/** The status of one operation, whenever it ends. */
async function ended(backend: RawFileBackend, begin: (token: number) => number): Promise<number> {
  const done = Promise.withResolvers<number>();
  backend.onComplete((_token, status) => done.resolve(status));
  const status = begin(0);
  backend.submit();
  const final = status === BACKEND_PENDING ? await done.promise : status;
  backend.onComplete(undefined);
  return final;
}

const isZero = (bytes: Uint8Array, from: number, to: number): boolean =>
  bytes.subarray(from, to).every((byte) => byte === 0);

beforeEach(() => {
  count += 1;
  path = join(folder, `image-${count}`);
  writeFileSync(path, Buffer.alloc(SIZE, 0xaa));
});
afterEach(async () => {
  for (const backend of backends.splice(0)) await backend.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

describeWithFfi('space of a raw file', () => {
  it('discard and unmapping zeroes give blocks back; other zeroes keep them; all read as zero', async () => {
    const backend = await open();
    const blocks = statSync(path).blocks;
    expect(await ended(backend, () => backend.discard(65536, 131072, 0))).toBe(VIRTIO_BLK_S_OK);
    if (backend.statistics.holes === 0) return;
    expect(statSync(path).blocks).toBeLessThan(blocks);
    expect(await ended(backend, (token) => backend.writeZeroes(262144 + 512, 131072, true, token))).toBe(
      VIRTIO_BLK_S_OK,
    );
    const after = statSync(path).blocks;
    expect(await ended(backend, (token) => backend.writeZeroes(524288, 65536 + 512, false, token))).toBe(
      VIRTIO_BLK_S_OK,
    );
    expect(statSync(path).blocks).toBeGreaterThanOrEqual(after);
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(SIZE);
    expect(
      isZero(bytes, 65536, 196608) && isZero(bytes, 262656, 393728) && isZero(bytes, 524288, 590336),
    ).toBe(true);
    expect([65535, 196608, 262655, 393728, 524287, 590336].map((at) => bytes[at])).toEqual(
      Array(6).fill(0xaa),
    );
    expect(backend.statistics.holes).toBe(2);
    expect(backend.mayUnmap).toBe(true);
  });

  it('a lock keeps a second user out, readers get along, and it goes with the backend', async () => {
    const first = await open({ lock: true });
    await expect(open({ lock: true })).rejects.toMatchObject({ code: 'EAGAIN', operation: 'lock' });
    await expect(open({ lock: true, readOnly: true })).rejects.toMatchObject({ code: 'EAGAIN' });
    await (await open()).close();
    await first.close();
    await open({ lock: true, readOnly: true });
    await open({ lock: true, readOnly: true });
    await expect(open({ lock: true })).rejects.toMatchObject({ code: 'EAGAIN' });
  });

  it('a block device tells its size, also a new one, and is read and written', async (test) => {
    let device = '';
    try {
      device = execFileSync('losetup', ['-f', '--show', path], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    } catch {
      if (process.env['VIRTLAB_REQUIRE_PEERS'] === '1')
        throw new Error('losetup (package mount) needs root and /dev/loop*');
      test.skip('losetup (package mount) needs root and /dev/loop*');
    }
    const file = path;
    path = device.trim();
    try {
      const backend = await open();
      expect(backend.capacitySectors).toBe(SIZE / 512);
      const guest = memoryRegion(new ArrayBuffer(4096));
      expect(await ended(backend, (token) => backend.read(guest, 0, 4096, SIZE - 4096, token))).toBe(
        VIRTIO_BLK_S_OK,
      );
      expect(guest.u8.every((byte) => byte === 0xaa)).toBe(true);
      expect(await ended(backend, (token) => backend.writeZeroes(SIZE - 4096, 4096, true, token))).toBe(
        VIRTIO_BLK_S_OK,
      );
      expect(await ended(backend, (token) => backend.read(guest, 0, 4096, SIZE - 4096, token))).toBe(
        VIRTIO_BLK_S_OK,
      );
      expect(isZero(guest.u8, 0, 4096)).toBe(true);
      expect(await ended(backend, (token) => backend.flush(token))).toBe(VIRTIO_BLK_S_OK);
      expect(() => backend.resize(10)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
      await expect(open({ capacitySectors: SIZE })).rejects.toMatchObject({ code: 'EINVAL' });
      const seen: number[] = [];
      backend.onCapacityChange!(() => seen.push(backend.capacitySectors));
      for (const size of [2 * SIZE, SIZE / 2]) {
        truncateSync(file, size);
        execFileSync('losetup', ['-c', path]);
        backend.refresh();
      }
      expect(seen, '§5.2.6 it follows the size that it gets').toEqual([SIZE / 256, SIZE / 1024]);
    } finally {
      for (const backend of backends.splice(0)) await backend.close();
      execFileSync('losetup', ['-d', path]);
    }
  });
});

describe('a machine without the FFI', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('discard does nothing, zeroes are written, a lock is refused', async () => {
    vi.stubEnv('VIRTLAB_NO_FFI', '1');
    vi.resetModules();
    const { openRawFileBackend: openWithout } = await import('./raw-file-backend.ts');
    const backend = await openWithout({ path });
    backends.push(backend);
    expect(backend.mayUnmap).toBe(false);
    expect(await ended(backend, () => backend.discard(0, 65536, 0))).toBe(VIRTIO_BLK_S_OK);
    expect(readFileSync(path)[0]).toBe(0xaa);
    expect(await ended(backend, (token) => backend.writeZeroes(512, 131072, true, token))).toBe(
      VIRTIO_BLK_S_OK,
    );
    expect(isZero(readFileSync(path), 512, 512 + 131072)).toBe(true);
    expect(backend.statistics).toMatchObject({ holes: 0, zeroRanges: 0, failures: 0 });
    await expect(openWithout({ path, lock: true })).rejects.toMatchObject({ code: 'ENOSYS' });
  });
});

describe.each(['sync', 'threads'] as const)('vectors of a raw file, io %s', (io) => {
  const fill = (
    vector: BlockVector,
    guest: ReturnType<typeof memoryRegion>,
    ...pieces: [number, number][]
  ): void => {
    vector.clear();
    for (const [offset, size] of pieces) vector.add(guest, offset, size);
  };

  it('pieces of guest memory and one range of the file, both ways; the vector may change after the call', async () => {
    const backend = await open({ io });
    const guest = memoryRegion(new SharedArrayBuffer(16384));
    for (let at = 0; at < 4096; at += 1) guest.u8[at] = at & 0x7f;
    const vector = new BlockVector();
    const written = ended(backend, (token) => {
      fill(vector, guest, [3000, 1000], [0, 500], [2000, 36]);
      const status = backend.writeVector!(vector, 8192, token);
      fill(vector, guest, [0, 1]);
      return status;
    });
    expect(await written).toBe(VIRTIO_BLK_S_OK);
    const expected = Buffer.concat([
      guest.u8.slice(3000, 4000),
      guest.u8.slice(0, 500),
      guest.u8.slice(2000, 2036),
    ]);
    expect(
      readFileSync(path)
        .subarray(8192, 8192 + 1536)
        .equals(expected),
    ).toBe(true);
    const read = ended(backend, (token) => {
      fill(vector, guest, [10000, 700], [12000, 836]);
      return backend.readVector!(vector, 8192, token);
    });
    expect(await read).toBe(VIRTIO_BLK_S_OK);
    const back = Buffer.concat([guest.u8.slice(10000, 10700), guest.u8.slice(12000, 12836)]);
    expect(back.equals(expected)).toBe(true);
  });

  it('a file that became shorter than the disk: IOERR for what is beyond, and said', async () => {
    const errors: BlkBackendError[] = [];
    const backend = await open({ io, onError: (error) => errors.push(error) });
    writeFileSync(path, Buffer.alloc(10000, 1));
    const guest = memoryRegion(new ArrayBuffer(8192));
    const vector = new BlockVector();
    fill(vector, guest, [0, 1024], [4096, 1024]);
    expect(await ended(backend, (token) => backend.readVector!(vector, 8192, token))).toBe(
      VIRTIO_BLK_S_IOERR,
    );
    expect(errors).toMatchObject([{ code: 'EIO', operation: 'read' }]);
    fill(vector, guest, [0, 1024], [4096, 512]);
    expect(await ended(backend, (token) => backend.readVector!(vector, 8192, token))).toBe(VIRTIO_BLK_S_OK);
  });

  it('§5.2.6 grows and shrinks, tells its listener, and follows what somebody else does', async () => {
    const backend = await open({ io });
    const seen: number[] = [];
    backend.onCapacityChange!(() => seen.push(backend.capacitySectors));
    backend.resize(4096);
    expect(statSync(path).size).toBe(4096 * 512);
    backend.resize(100);
    writeFileSync(path, Buffer.alloc(77 * 512));
    backend.refresh();
    backend.refresh();
    expect(seen).toEqual([4096, 100, 77]);
    expect(() => backend.resize(0)).toThrow(RangeError);
  });
});
