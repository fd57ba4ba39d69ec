import { describe, expect, it } from 'vitest';
import { featureBit, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  VIRTIO_BLK_ZONE_DESCRIPTOR,
  VIRTIO_BLK_ZONE_REPORT,
} from '@virtlab/abi/virtio-blk';
import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { type ScriptedTransport, SimulatedLoops } from '@virtlab/virtio/testing';
import type { BlkDriver } from './driver-contract.ts';
import { BLK_DRIVER_FEATURES } from './driver-options.ts';
import { createBlkDriver } from './driver.ts';
import { type BlkConfig, ZONED_CONFIG_SIZE, encodeConfig } from './protocol.ts';
import { codeOf, withDriver } from './testing/scenes.ts';
import { createScriptedDisk, takeRequests, useRequest } from './testing/scripted-disk.ts';
import { ZONE_SECTORS, zonedDisk } from './testing/zoned.ts';

const SECTOR = 512;

describe('zones of a driver', () => {
  it('says what the disk is', async () => {
    await withDriver(zonedDisk({ maxOpenZones: 3, maxActiveZones: 5 }), async (driver) => {
      expect(driver.zones).toMatchObject({
        model: 'host-managed',
        zoneSectors: ZONE_SECTORS,
        count: 8,
        maxOpenZones: 3,
        maxActiveZones: 5,
        maxAppendSectors: 8,
        writeGranularity: 512,
        appendSizeMax: 8 * SECTOR,
      });
    });
  });

  it('reports all zones however few fit a buffer, from any sector, up to any number', async () => {
    await withDriver(
      zonedDisk(),
      async (driver, bench) => {
        const zones = driver.zones!;
        await bench.run(zones.open(ZONE_SECTORS));
        await bench.run(driver.write(2 * ZONE_SECTORS, new Uint8Array(3 * SECTOR)));
        const all = await bench.run(zones.report());
        expect(all.map(({ start }) => start)).toEqual(
          Array.from({ length: 8 }, (_, at) => at * ZONE_SECTORS),
        );
        expect(all[0]).toMatchObject({
          type: 'conventional',
          state: 'not-write-pointer',
          writePointer: undefined,
        });
        expect(all[1]).toMatchObject({ state: 'explicitly-open', writePointer: ZONE_SECTORS });
        expect(all[2]).toMatchObject({ state: 'implicitly-open', writePointer: 2 * ZONE_SECTORS + 3 });
        expect(await bench.run(zones.report(2 * ZONE_SECTORS + 9, 3))).toEqual(all.slice(2, 5));
        expect(await bench.run(zones.report(7 * ZONE_SECTORS))).toEqual(all.slice(7));
        expect(await bench.run(codeOf(zones.report(8 * ZONE_SECTORS)))).toBe('ERANGE');
      },
      { driver: { bounceSize: SECTOR } },
    );
  });

  it('open, close, finish, reset, reset all; errors carry the zone status as their code', async () => {
    await withDriver(zonedDisk({ maxOpenZones: 1, maxActiveZones: 2 }), async (driver, bench) => {
      const zones = driver.zones!;
      const at = (index: number): number => index * ZONE_SECTORS;
      await bench.run(zones.open(at(1)));
      expect(await bench.run(codeOf(zones.open(at(2))))).toBe('ZONE_OPEN_RESOURCE');
      await bench.run(driver.write(at(1), new Uint8Array(SECTOR)));
      await bench.run(zones.close(at(1)));
      await bench.run(driver.write(at(2), new Uint8Array(SECTOR)));
      expect(await bench.run(codeOf(zones.open(at(3))))).toBe('ZONE_ACTIVE_RESOURCE');
      expect(await bench.run(codeOf(zones.open(at(3) + 1)))).toBe('ZONE_INVALID_CMD');
      expect(await bench.run(codeOf(driver.write(at(1), new Uint8Array(SECTOR))))).toBe('ZONE_UNALIGNED_WP');
      await bench.run(zones.finish(at(1)));
      await bench.run(zones.reset(at(2)));
      const states = async () => (await bench.run(zones.report(at(1), 2))).map(({ state }) => state);
      expect(await states()).toEqual(['full', 'empty']);
      await bench.run(zones.resetAll());
      expect(await states()).toEqual(['empty', 'empty']);
    });
  });

  it('append: by promise and by the data plane, many in flight, each told where it went', async () => {
    await withDriver(
      zonedDisk(),
      async (driver, bench) => {
        const zones = driver.zones!;
        const start = 3 * ZONE_SECTORS;
        const works = [1, 2, 3].map((fill) => zones.append(start, new Uint8Array(2 * SECTOR).fill(fill)));
        const went = await bench.run(Promise.all(works));
        expect(went.toSorted((a, b) => a - b)).toEqual([start, start + 2, start + 4]);
        for (const [index, sector] of went.entries()) {
          const back = new Uint8Array(2 * SECTOR);
          await bench.run(driver.read(sector, back));
          expect(back.every((byte) => byte === index + 1)).toBe(true);
        }
        const buffer = driver.allocateBuffer(4 * SECTOR);
        const seen = new Map<number, number>();
        driver.onCompletion((token, completion) => {
          expect(completion).toBe(VIRTIO_BLK_S_OK);
          seen.set(token, driver.appendSector);
        });
        for (let token = 0; token < 4; token += 1)
          driver.submitAppend(start, buffer + token * SECTOR, SECTOR, token);
        driver.kick();
        await bench.until('all ended', () => seen.size === 4);
        expect([...seen.values()].toSorted((a, b) => a - b)).toEqual([6, 7, 8, 9].map((at) => start + at));
        await expect(zones.append(start, new Uint8Array(9 * SECTOR))).rejects.toThrow(RangeError);
        expect(() => driver.submitAppend(start, buffer, 100, 0)).toThrow(RangeError);
      },
      { device: { queueCount: 3 }, driver: { queueCount: 3 } },
    );
  });

  it('a large write to a zone arrives in order over several queues', async () => {
    await withDriver(
      zonedDisk(),
      async (driver, bench) => {
        const source = Uint8Array.from({ length: ZONE_SECTORS * SECTOR }, (_, at) => (at >> 9) & 0xff);
        for (const index of [1, 2, 3]) await bench.run(driver.write(index * ZONE_SECTORS, source));
        const back = new Uint8Array(source.length);
        await bench.run(driver.read(2 * ZONE_SECTORS, back));
        expect(Buffer.from(back).equals(source)).toBe(true);
      },
      {
        device: { queueCount: 3, queueSize: 8 },
        driver: { queueCount: 3, bounceSize: 1024, bounceCount: 4 },
      },
    );
  });

  it('a host-managed disk is refused by a driver that does not want zones, and a host-aware one is just a disk', async () => {
    const wanted = BLK_DRIVER_FEATURES & ~featureBit(VIRTIO_BLK_F_ZONED);
    const managed = withDriver(zonedDisk(), async () => {}, { driver: { wanted } });
    await expect(managed).rejects.toThrow(/refused/);
    await withDriver(
      zonedDisk({ model: 'host-aware' }),
      async (driver, bench) => {
        expect(driver.zones).toBeUndefined();
        await bench.run(driver.write(77, new Uint8Array(SECTOR)));
      },
      { driver: { wanted } },
    );
  });
});

const FEATURES = featureBits(
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_ZONED,
);
const CONFIG: Partial<BlkConfig> = {
  capacity: 256n,
  seg_max: 8,
  blk_size: 512,
  zone_sectors: 64,
  max_append_sectors: 8,
  write_granularity: 512,
  model: 1,
};

async function scripted(
  config: Partial<BlkConfig>,
  body: (driver: BlkDriver, disk: ScriptedTransport, loops: SimulatedLoops) => Promise<void>,
): Promise<void> {
  const loops = new SimulatedLoops(1);
  const bytes = encodeConfig({ ...CONFIG, ...config }, ZONED_CONFIG_SIZE);
  const disk = createScriptedDisk({ features: FEATURES, config: bytes });
  const driver = await loops.run(createBlkDriver(disk.link, { aio: loops.driverAio }));
  await body(driver, disk, loops);
  await loops.run(driver.close());
  expect([...disk.leaks(), ...loops.driverAio.leaks()]).toEqual([]);
}

describe('a device that lies about zones', () => {
  it.each([
    ['an unknown model', { model: 3 }],
    ['zones of no sectors', { zone_sectors: 0 }],
    ['a granularity of no sector', { write_granularity: 100 }],
  ])('EPROTO for %s', async (_what, config) => {
    await expect(scripted(config, async () => {})).rejects.toMatchObject({ code: 'EPROTO' });
  });

  it('model 0 is a disk without zones', async () => {
    await scripted({ model: 0, zone_sectors: 0 }, async (driver) => expect(driver.zones).toBeUndefined());
  });

  const good = { z_cap: 64n, z_start: 0n, z_wp: 0n, z_type: 2, z_state: 1, reserved: new Uint8Array(38) };
  const lies: [string, bigint, Partial<typeof good>][] = [
    ['more zones than asked for', 5n, {}],
    ['2^64 - 1 zones', (1n << 64n) - 1n, {}],
    ['no zone', 0n, {}],
    ['a zone elsewhere', 4n, { z_start: 7n }],
    ['an unknown type', 4n, { z_type: 9 }],
    ['an unknown state', 4n, { z_state: 7 }],
    ['a write pointer outside', 4n, { z_wp: 65n }],
    ['more capacity than sectors', 4n, { z_cap: 65n }],
  ];
  it.each(lies)('EPROTO for a report of %s', async (_what, count, first) => {
    await scripted({}, async (driver, disk, loops) => {
      const code = codeOf(driver.zones!.report());
      await loops.settle();
      const [request] = takeRequests(disk);
      const data = request!.descriptors.find(({ flags }) => (flags & VRING_DESC_F_WRITE) !== 0)!;
      const view = new DataView(disk.memory.u8.buffer, disk.memory.u8.byteOffset);
      const at = disk.at(data.address);
      VIRTIO_BLK_ZONE_REPORT.write(view, at, { nr_zones: count, reserved: new Uint8Array(56) });
      for (let index = 0; index < 4; index += 1) {
        const start = BigInt(index * 64);
        const zone = { ...good, z_start: start, z_wp: start, ...(index === 0 ? first : {}) };
        VIRTIO_BLK_ZONE_DESCRIPTOR.write(view, at + 64 + index * VIRTIO_BLK_ZONE_DESCRIPTOR.size, zone);
      }
      useRequest(disk, request!, VIRTIO_BLK_S_OK);
      disk.call();
      expect(await loops.run(code)).toBe('EPROTO');
    });
  });

  it('EPROTO for an append that went outside its zone; a zone status is a code of its own', async () => {
    await scripted({}, async (driver, disk, loops) => {
      const code = codeOf(driver.zones!.append(64, new Uint8Array(SECTOR)));
      await loops.settle();
      const [request] = takeRequests(disk);
      const { address } = request!.descriptors.at(-1)!;
      new DataView(disk.memory.u8.buffer).setBigUint64(disk.at(address), 128n, true);
      disk.memory.u8[disk.at(address) + 8] = VIRTIO_BLK_S_OK;
      disk.rings[0]!.use(request!.head, 9);
      disk.call();
      expect(await loops.run(code)).toBe('EPROTO');
      const write = codeOf(driver.write(64, new Uint8Array(SECTOR)));
      await loops.settle();
      useRequest(disk, takeRequests(disk)[0]!, VIRTIO_BLK_S_ZONE_UNALIGNED_WP);
      disk.call();
      expect(await loops.run(write)).toBe('ZONE_UNALIGNED_WP');
    });
  });
});
