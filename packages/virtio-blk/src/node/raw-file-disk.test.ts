import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createBlkDevice } from '../device.ts';
import type { BlkDriver } from '../driver-contract.ts';
import { createBlkDriver } from '../driver.ts';
import { openRawFileBackend, type RawFileBackend, type RawFileBackendOptions } from './raw-file-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtio-blk-disk-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Driver, device and file on the real loop. */
async function withFile(
  options: RawFileBackendOptions,
  body: (disk: BlkDriver, backend: RawFileBackend) => Promise<void>,
): Promise<void> {
  const backend = await openRawFileBackend(options);
  using aio = createAioContext();
  const host = new DeviceHost({ device: createBlkDevice({ backend }), aio });
  const dma = new HostileDmaMapper({ memorySize: 4 << 20 });
  const { memory, deviceMemory } = dma;
  const machine = createMemoryTransport({ host, memory, dma, deviceMemory, deviceAio: aio, driverAio: aio });
  const disk = await createBlkDriver(machine.link, { aio });
  await body(disk, backend);
  await disk.close();
  await machine.close();
  host[Symbol.dispose]();
  await backend.close();
  expect([...dma.leaks(), ...aio.leaks()]).toEqual([]);
}

describe.each(['sync', 'threads'] as const)('a disk over a raw file, io %s', (io) => {
  it('what was written and flushed is what the file system reads', async () => {
    const path = join(folder, `${io}.img`);
    const size = 1 << 20;
    const expected = Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 12)) & 0xff);
    await withFile({ path, io, createSize: size }, async (disk, backend) => {
      const pieces = Array.from({ length: 8 }, (_, index) => index * (size / 8));
      await Promise.all(pieces.map((at) => disk.write(at / 512, expected.subarray(at, at + size / 8))));
      await disk.flush();
      expect(readFileSync(path).equals(expected)).toBe(true);
      const back = new Uint8Array(size);
      await disk.read(0, back);
      expect(Buffer.from(back).equals(expected)).toBe(true);
      await disk.writeZeroes(100, 1000);
      expected.fill(0, 100 * 512, 1100 * 512);
      await disk.flush();
      expect(readFileSync(path).equals(expected)).toBe(true);
      expect(backend.statistics).toMatchObject({ flushes: 2, syncs: 2, failures: 0 });
    });
  });

  it('many flushes at once cost few syncs', async () => {
    await withFile(
      { path: join(folder, `${io}-flush.img`), io, createSize: 65536 },
      async (disk, backend) => {
        await Promise.all(Array.from({ length: 50 }, () => disk.flush()));
        expect(backend.statistics.flushes).toBe(50);
        expect(backend.statistics.syncs).toBeLessThanOrEqual(10);
      },
    );
  });

  it('a full disk is IOERR for the write, and reads and other requests go on', async () => {
    await withFile({ path: '/dev/full', io, capacitySectors: 1024 }, async (disk, backend) => {
      await expect(disk.write(0, new Uint8Array(4096))).rejects.toMatchObject({ code: 'IOERR' });
      await expect(disk.flush()).rejects.toMatchObject({ code: 'IOERR' });
      await disk.read(0, new Uint8Array(4096));
      expect(backend.statistics).toMatchObject({ diskFull: 1, failures: 2 });
    });
  });

  it('closing with requests in flight ends cleanly', async () => {
    await withFile({ path: join(folder, `${io}-close.img`), io, createSize: 1 << 20 }, async (disk) => {
      const works = Array.from({ length: 40 }, (_, sector) => disk.write(sector, new Uint8Array(512)));
      const outcomes = Promise.allSettled([...works, disk.flush()]);
      await disk.close();
      const codes = new Set(
        (await outcomes).flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : [])),
      );
      expect([...codes]).toEqual(['ENODEV']);
    });
  });
});
