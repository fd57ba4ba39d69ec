import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createBlkDevice } from '../device.ts';
import type { BlkDriver } from '../driver-contract.ts';
import { createBlkDriver } from '../driver.ts';
import { type ZonedBackendOptions, createZonedBackend } from '../zoned-backend.ts';
import { openRawFileBackend } from './raw-file-backend.ts';
import { openZoneFile } from './zone-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtio-blk-zones-'));
afterAll(() => rmSync(folder, { recursive: true }));
const ZONE = 128;
const SECTOR = 512;

/** Driver, device, zones and files on the real loop. */
async function withZones(
  name: string,
  body: (disk: BlkDriver) => Promise<void>,
  options: Partial<ZonedBackendOptions> = {},
): Promise<void> {
  const backend = createZonedBackend({
    backend: await openRawFileBackend({
      path: join(folder, `${name}.img`),
      createSize: 8 * ZONE * SECTOR,
      io: 'threads',
    }),
    model: 'host-managed',
    zoneSectors: ZONE,
    conventionalCount: 1,
    store: openZoneFile(join(folder, `${name}.zones`)),
    ...options,
  });
  using aio = createAioContext();
  const host = new DeviceHost({ device: createBlkDevice({ backend }), aio });
  const memory = memoryRegion(new ArrayBuffer(4 << 20));
  const machine = createMemoryTransport({ host, memory, deviceAio: aio, driverAio: aio });
  const disk = await createBlkDriver(machine.link, { aio });
  await body(disk);
  await disk.close();
  await machine.close();
  host[Symbol.dispose]();
  await backend.close();
}

describe('a zoned disk over files', () => {
  it('write pointers, full and closed zones are there after a restart; nothing is open', async () => {
    await withZones('kept', async (disk) => {
      const zones = disk.zones!;
      await disk.write(ZONE, new Uint8Array(5 * SECTOR).fill(1));
      await zones.append(2 * ZONE, new Uint8Array(3 * SECTOR).fill(2));
      await zones.finish(3 * ZONE);
      await zones.open(4 * ZONE);
      await disk.write(5 * ZONE, new Uint8Array(4 * SECTOR).fill(9));
      await zones.reset(5 * ZONE);
      await disk.flush();
    });
    await withZones('kept', async (disk) => {
      const zones = await disk.zones!.report();
      expect(zones.map(({ state }) => state)).toEqual([
        'not-write-pointer',
        'closed',
        'closed',
        'full',
        'empty',
        'empty',
        'empty',
        'empty',
      ]);
      expect([zones[1]!.writePointer, zones[2]!.writePointer]).toEqual([ZONE + 5, 2 * ZONE + 3]);
      const back = new Uint8Array(6 * SECTOR);
      await disk.read(ZONE, back);
      expect([back[0], back[5 * SECTOR - 1], back[5 * SECTOR]]).toEqual([1, 1, 0]);
      await disk.read(5 * ZONE, back);
      expect(back.every((byte) => byte === 0)).toBe(true);
      expect(await disk.zones!.append(2 * ZONE, new Uint8Array(SECTOR))).toBe(2 * ZONE + 3);
    });
  });

  it('a file of another layout, a torn one, and one that is none are refused', async () => {
    await withZones('layout', async (disk) => {
      await disk.flush();
    });
    await expect(withZones('layout', async () => {}, { zoneSectors: 2 * ZONE })).rejects.toMatchObject({
      code: 'EINVAL',
    });
    truncateSync(join(folder, 'layout.zones'), 40);
    await expect(withZones('layout', async () => {})).rejects.toMatchObject({ code: 'EINVAL' });
    writeFileSync(join(folder, 'layout.zones'), 'no zones at all, but long enough to be read as a head');
    await expect(withZones('layout', async () => {})).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('records that make no sense are brought back to what a zone can be', async () => {
    const words = new Uint32Array(9 * 4).fill(0xffff_ffff);
    words.set([0x7a6f_6e65, 1, ZONE, 8]);
    writeFileSync(join(folder, 'wild.zones'), words);
    await withZones('wild', async (disk) => {
      const zones = await disk.zones!.report();
      expect(zones.slice(1).map(({ state }) => state)).toEqual(Array(7).fill('offline'));
    });
  });
});
