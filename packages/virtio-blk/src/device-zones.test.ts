import { describe, expect, it } from 'vitest';
import { featureBit } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_T_ZONE_APPEND,
  VIRTIO_BLK_T_ZONE_CLOSE,
  VIRTIO_BLK_T_ZONE_FINISH,
  VIRTIO_BLK_T_ZONE_OPEN,
  VIRTIO_BLK_T_ZONE_REPORT,
  VIRTIO_BLK_T_ZONE_RESET,
  VIRTIO_BLK_T_ZONE_RESET_ALL,
  VIRTIO_BLK_ZONE_DESCRIPTOR,
  VIRTIO_BLK_ZONE_REPORT,
  VIRTIO_BLK_ZS_EMPTY,
  VIRTIO_BLK_ZS_EOPEN,
  VIRTIO_BLK_ZS_FULL,
  VIRTIO_BLK_ZS_IOPEN,
  VIRTIO_BLK_ZS_NOT_WP,
  VIRTIO_BLK_ZS_OFFLINE,
  VIRTIO_BLK_ZT_CONV,
  VIRTIO_BLK_ZT_SWP,
  VIRTIO_BLK_ZT_SWR,
} from '@virtlab/abi/virtio-blk';
import { createBlkDevice } from './device.ts';
import { decodeConfig } from './protocol.ts';
import type { BlkBench } from './testing/blk-bench.ts';
import type { RawAnswer, RawRequester } from './testing/request.ts';
import { CAPACITY, range, withDevice } from './testing/scenes.ts';
import { ZONE_SECTORS, zonedDisk } from './testing/zoned.ts';

const SECTOR = 512;
const zone = (index: number): bigint => BigInt(index * ZONE_SECTORS);
const sectors = (count: number, fill: number = 1): Uint8Array => new Uint8Array(count * SECTOR).fill(fill);

interface Seen {
  readonly start: bigint;
  readonly wp: bigint;
  readonly type: number;
  readonly state: number;
}

async function report(
  requester: RawRequester,
  bench: BlkBench,
  sector: bigint,
  count: number,
): Promise<Seen[]> {
  const dataSize = VIRTIO_BLK_ZONE_REPORT.size + count * VIRTIO_BLK_ZONE_DESCRIPTOR.size;
  const { status, data } = await requester.send(bench, { type: VIRTIO_BLK_T_ZONE_REPORT, sector, dataSize });
  expect(status).toBe(VIRTIO_BLK_S_OK);
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const zones = Number(VIRTIO_BLK_ZONE_REPORT.read(view, 0).nr_zones);
  return Array.from({ length: zones }, (_, index) => {
    const at = VIRTIO_BLK_ZONE_REPORT.size + index * VIRTIO_BLK_ZONE_DESCRIPTOR.size;
    const { z_start, z_wp, z_type, z_state, z_cap } = VIRTIO_BLK_ZONE_DESCRIPTOR.read(view, at);
    expect(z_cap).toBe(BigInt(ZONE_SECTORS));
    return { start: z_start, wp: z_wp, type: z_type, state: z_state };
  });
}

async function append(
  requester: RawRequester,
  bench: BlkBench,
  sector: bigint,
  count: number,
): Promise<RawAnswer> {
  const type = VIRTIO_BLK_T_ZONE_APPEND;
  return await requester.send(bench, { type, sector, payload: sectors(count, 7), dataSize: 8 });
}

describe('§5.2.6 requests of a zoned disk', () => {
  it('ZONE_REPORT fills what fits, from the zone that the sector lies in, and says how many', async () => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      await requester.send(bench, { type: VIRTIO_BLK_T_OUT, sector: zone(2), payload: sectors(3) });
      await requester.send(bench, { type: VIRTIO_BLK_T_ZONE_OPEN, sector: zone(3) });
      await requester.send(bench, { type: VIRTIO_BLK_T_ZONE_FINISH, sector: zone(4) });
      const all = await report(requester, bench, 0n, 100);
      expect(all.length).toBe(8);
      expect(all.slice(0, 6).map(({ type, state }) => [type, state])).toEqual([
        [VIRTIO_BLK_ZT_CONV, VIRTIO_BLK_ZS_NOT_WP],
        [VIRTIO_BLK_ZT_SWR, VIRTIO_BLK_ZS_EMPTY],
        [VIRTIO_BLK_ZT_SWR, VIRTIO_BLK_ZS_IOPEN],
        [VIRTIO_BLK_ZT_SWR, VIRTIO_BLK_ZS_EOPEN],
        [VIRTIO_BLK_ZT_SWR, VIRTIO_BLK_ZS_FULL],
        [VIRTIO_BLK_ZT_SWR, VIRTIO_BLK_ZS_EMPTY],
      ]);
      expect(all[2]!.wp).toBe(zone(2) + 3n);
      expect(await report(requester, bench, zone(2) + 5n, 2)).toEqual(all.slice(2, 4));
      expect(await report(requester, bench, zone(7), 5)).toEqual(all.slice(7));
      expect(await report(requester, bench, 0n, 0)).toEqual([]);
    });
  });

  it.each([
    ['no room for the header', { sector: 0n, dataSize: 63 }, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['beyond the disk', { sector: BigInt(CAPACITY), dataSize: 640 }, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['at 2^64 - 1', { sector: (1n << 64n) - 1n, dataSize: 640 }, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['with data', { sector: 0n, dataSize: 640, payload: sectors(1) }, VIRTIO_BLK_S_IOERR],
  ])('ZONE_REPORT %s is refused', async (_what, request, expected) => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      const type = VIRTIO_BLK_T_ZONE_REPORT;
      expect((await requester.send(bench, { type, ...request })).status).toBe(expected);
    });
  });

  it('ZONE_APPEND says where the data went, before the status', async () => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      for (const at of [0n, 4n, 8n]) {
        const { status, data, usedSize } = await append(requester, bench, zone(3), 4);
        expect([status, usedSize]).toEqual([VIRTIO_BLK_S_OK, 9]);
        expect(new DataView(data.buffer, data.byteOffset).getBigUint64(0, true)).toBe(zone(3) + at);
      }
      const read = await requester.send(bench, { sector: zone(3) + 10n, dataSize: 4 * SECTOR });
      expect([read.data[0], read.data[2 * SECTOR - 1], read.data[2 * SECTOR], read.data.at(-1)]).toEqual([
        7, 7, 0, 0,
      ]);
    });
  });

  const refusedAppends: [string, bigint, number, number][] = [
    ['not at the start of a zone', zone(3) + 1n, 1, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['to a conventional zone', zone(0), 1, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['of more than max_append_sectors', zone(3), 9, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['beyond the disk', BigInt(CAPACITY), 1, VIRTIO_BLK_S_ZONE_INVALID_CMD],
  ];
  it.each(refusedAppends)('ZONE_APPEND %s is refused', async (_what, sector, count, expected) => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      expect((await append(requester, bench, sector, count)).status).toBe(expected);
    });
  });

  it('ZONE_APPEND is UNSUPP where max_append_sectors is 0, IOERR without room for the sector', async () => {
    await withDevice(zonedDisk({ maxAppendSectors: 0 }), async (requester, bench) => {
      expect((await append(requester, bench, zone(3), 1)).status).toBe(VIRTIO_BLK_S_UNSUPP);
    });
    await withDevice(zonedDisk(), async (requester, bench) => {
      const request = { type: VIRTIO_BLK_T_ZONE_APPEND, sector: zone(3), payload: sectors(1), dataSize: 7 };
      expect((await requester.send(bench, request)).status).toBe(VIRTIO_BLK_S_IOERR);
    });
  });

  const writes: [string, bigint, number, number][] = [
    ['at the write pointer', zone(1), 2, VIRTIO_BLK_S_OK],
    ['elsewhere', zone(1) + 2n, 2, VIRTIO_BLK_S_ZONE_UNALIGNED_WP],
    ['that ends between granules', zone(1), 1, VIRTIO_BLK_S_ZONE_UNALIGNED_WP],
    ['across the end of a zone', zone(1), ZONE_SECTORS + 2, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['from a conventional zone into it', zone(1) - 2n, 4, VIRTIO_BLK_S_ZONE_INVALID_CMD],
    ['within a conventional zone', 3n, 5, VIRTIO_BLK_S_OK],
    ['beyond the disk', BigInt(CAPACITY), 2, VIRTIO_BLK_S_IOERR],
  ];
  it.each(writes)('OUT %s', async (_what, sector, count, expected) => {
    await withDevice(zonedDisk({ writeGranularity: 1024 }), async (requester, bench) => {
      const request = { type: VIRTIO_BLK_T_OUT, sector, payload: sectors(count) };
      expect((await requester.send(bench, request)).status).toBe(expected);
    });
  });

  it('many writes in flight to one zone are taken in the order of the ring', async () => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      const tokens = Array.from({ length: ZONE_SECTORS }, (_, at) =>
        requester.add({ type: VIRTIO_BLK_T_OUT, sector: zone(2) + BigInt(at), payload: sectors(1, at) }),
      );
      requester.kick();
      await bench.settle();
      expect(tokens.every((token) => requester.answer(token)!.status === VIRTIO_BLK_S_OK)).toBe(true);
      expect((await report(requester, bench, zone(2), 1))[0]!.state).toBe(VIRTIO_BLK_ZS_FULL);
    });
  });

  it('limits: an implicitly open zone makes room; explicit ones do not; active ones never', async () => {
    const disk = zonedDisk({ maxOpenZones: 2, maxActiveZones: 3 });
    await withDevice(disk, async (requester, bench) => {
      const send = async (type: number, index: number): Promise<number> => {
        const payload = type === VIRTIO_BLK_T_OUT ? { payload: sectors(1) } : {};
        return (await requester.send(bench, { type, sector: zone(index), ...payload })).status;
      };
      expect(await send(VIRTIO_BLK_T_OUT, 1)).toBe(VIRTIO_BLK_S_OK);
      expect(await send(VIRTIO_BLK_T_ZONE_OPEN, 2)).toBe(VIRTIO_BLK_S_OK);
      expect(await send(VIRTIO_BLK_T_ZONE_OPEN, 3)).toBe(VIRTIO_BLK_S_OK);
      expect([disk.openZoneCount, disk.activeZoneCount]).toEqual([2, 3]);
      expect(await send(VIRTIO_BLK_T_ZONE_OPEN, 1)).toBe(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE);
      expect(await send(VIRTIO_BLK_T_OUT, 4)).toBe(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE);
      expect(await send(VIRTIO_BLK_T_ZONE_CLOSE, 2)).toBe(VIRTIO_BLK_S_OK);
      expect(await send(VIRTIO_BLK_T_OUT, 4)).toBe(VIRTIO_BLK_S_OK);
    });
  });

  it('read-only and offline zones, and requests on conventional ones: ZONE_INVALID_CMD', async () => {
    const disk = zonedDisk();
    await withDevice(disk, async (requester, bench) => {
      await requester.send(bench, { type: VIRTIO_BLK_T_OUT, sector: zone(1), payload: sectors(2, 9) });
      disk.failZone(1, 'read-only');
      disk.failZone(2, 'offline');
      const types = [
        VIRTIO_BLK_T_ZONE_OPEN,
        VIRTIO_BLK_T_ZONE_CLOSE,
        VIRTIO_BLK_T_ZONE_FINISH,
        VIRTIO_BLK_T_ZONE_RESET,
      ];
      for (const index of [0, 1, 2]) {
        for (const type of types) {
          const { status } = await requester.send(bench, { type, sector: zone(index) });
          expect(status, `type ${type} of zone ${index}`).toBe(VIRTIO_BLK_S_ZONE_INVALID_CMD);
        }
      }
      expect((await append(requester, bench, zone(1), 1)).status).toBe(VIRTIO_BLK_S_ZONE_INVALID_CMD);
      const kept = await requester.send(bench, { sector: zone(1), dataSize: SECTOR });
      expect([kept.status, kept.data[0]]).toEqual([VIRTIO_BLK_S_OK, 9]);
      const lost = await requester.send(bench, { sector: zone(2), dataSize: SECTOR });
      expect(lost.status).toBe(VIRTIO_BLK_S_ZONE_INVALID_CMD);
      expect((await requester.send(bench, { type: VIRTIO_BLK_T_ZONE_RESET_ALL })).status).toBe(
        VIRTIO_BLK_S_OK,
      );
      expect((await report(requester, bench, zone(2), 1))[0]!.state).toBe(VIRTIO_BLK_ZS_OFFLINE);
    });
  });

  it('RESET and RESET_ALL empty zones; what was there is gone', async () => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      for (const index of [1, 2, 5]) {
        await requester.send(bench, {
          type: VIRTIO_BLK_T_OUT,
          sector: zone(index),
          payload: sectors(4, 0xaa),
        });
      }
      await requester.send(bench, { type: VIRTIO_BLK_T_ZONE_RESET, sector: zone(1) });
      await requester.send(bench, { type: VIRTIO_BLK_T_ZONE_RESET_ALL });
      const zones = await report(requester, bench, 0n, 8);
      expect(
        zones.slice(1).every(({ state, wp, start }) => state === VIRTIO_BLK_ZS_EMPTY && wp === start),
      ).toBe(true);
      for (const index of [1, 2, 5]) {
        const { data } = await requester.send(bench, { sector: zone(index), dataSize: 4 * SECTOR });
        expect(data.every((byte) => byte === 0)).toBe(true);
      }
    });
  });

  it('SECURE_ERASE of whole zones is a reset of them; of parts, IOERR', async () => {
    await withDevice(zonedDisk(), async (requester, bench) => {
      const type = VIRTIO_BLK_T_SECURE_ERASE;
      await requester.send(bench, { type: VIRTIO_BLK_T_OUT, sector: zone(2), payload: sectors(4) });
      const part = { type, payload: range(zone(2), ZONE_SECTORS - 1) };
      expect((await requester.send(bench, part)).status).toBe(VIRTIO_BLK_S_IOERR);
      const whole = { type, payload: range(zone(2), 2 * ZONE_SECTORS) };
      expect((await requester.send(bench, whole)).status).toBe(VIRTIO_BLK_S_OK);
      expect((await report(requester, bench, zone(2), 1))[0]!.state).toBe(VIRTIO_BLK_ZS_EMPTY);
      const conventional = { type, payload: range(0n, ZONE_SECTORS) };
      expect((await requester.send(bench, conventional)).status).toBe(VIRTIO_BLK_S_ZONE_INVALID_CMD);
    });
  });
});

describe('§5.2.5.2 negotiation of a zoned disk', () => {
  it('host-managed: no discard, no write zeroes, and no driver without ZONED', async () => {
    const device = createBlkDevice({ backend: zonedDisk() });
    const withheld = featureBit(VIRTIO_BLK_F_DISCARD) | featureBit(VIRTIO_BLK_F_WRITE_ZEROES);
    expect(device.features & (withheld | featureBit(VIRTIO_BLK_F_ZONED))).toBe(
      featureBit(VIRTIO_BLK_F_ZONED),
    );
    expect(device.refuseFeatures?.(featureBit(VIRTIO_BLK_F_FLUSH))).toMatch(/host-managed/i);
    expect(device.refuseFeatures?.(featureBit(VIRTIO_BLK_F_ZONED))).toBeUndefined();
  });

  it('host-aware without ZONED: an ordinary disk, the zoned fields zero, zone requests UNSUPP', async () => {
    await withDevice(
      zonedDisk({ model: 'host-aware' }),
      async (requester, bench) => {
        const config = decodeConfig(await bench.run(bench.readConfig()));
        expect(config).toMatchObject({
          zone_sectors: 0,
          model: 0,
          write_granularity: 0,
          max_append_sectors: 0,
        });
        const request = { type: VIRTIO_BLK_T_OUT, sector: zone(2) + 7n, payload: sectors(3) };
        expect((await requester.send(bench, request)).status).toBe(VIRTIO_BLK_S_OK);
        for (const type of [
          VIRTIO_BLK_T_ZONE_REPORT,
          VIRTIO_BLK_T_ZONE_APPEND,
          VIRTIO_BLK_T_ZONE_RESET_ALL,
        ]) {
          expect((await requester.send(bench, { type, dataSize: 640 })).status).toBe(VIRTIO_BLK_S_UNSUPP);
        }
      },
      { wanted: featureBit(VIRTIO_BLK_F_FLUSH) },
    );
  });

  it('host-aware without ZONED: no limit and no zone status reaches the driver', async () => {
    const disk = zonedDisk({ model: 'host-aware', maxOpenZones: 1, maxActiveZones: 1 });
    await withDevice(
      disk,
      async (requester, bench) => {
        for (const index of [1, 2, 3]) {
          const request = { type: VIRTIO_BLK_T_OUT, sector: zone(index), payload: sectors(1) };
          expect((await requester.send(bench, request)).status).toBe(VIRTIO_BLK_S_OK);
        }
        disk.failZone(2, 'offline');
        expect((await requester.send(bench, { sector: zone(2), dataSize: SECTOR })).status).toBe(
          VIRTIO_BLK_S_IOERR,
        );
      },
      { wanted: featureBit(VIRTIO_BLK_F_FLUSH) },
    );
  });

  it('host-aware with ZONED: zones are preferred, writes go anywhere and move the pointer forward only', async () => {
    await withDevice(zonedDisk({ model: 'host-aware' }), async (requester, bench) => {
      const write = async (sector: bigint, count: number): Promise<void> => {
        const request = { type: VIRTIO_BLK_T_OUT, sector, payload: sectors(count, 3) };
        expect((await requester.send(bench, request)).status).toBe(VIRTIO_BLK_S_OK);
      };
      await write(zone(2) + 10n, 2);
      await write(zone(2), 1);
      expect((await report(requester, bench, zone(2), 1))[0]).toMatchObject({
        type: VIRTIO_BLK_ZT_SWP,
        state: VIRTIO_BLK_ZS_IOPEN,
        wp: zone(2) + 12n,
      });
      await write(zone(3) - 2n, 4);
      expect((await report(requester, bench, zone(2), 2)).map(({ state }) => state)).toEqual([
        VIRTIO_BLK_ZS_FULL,
        VIRTIO_BLK_ZS_IOPEN,
      ]);
      const zeroes = { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range(zone(4), 5) };
      expect((await requester.send(bench, zeroes)).status).toBe(VIRTIO_BLK_S_OK);
      expect((await report(requester, bench, zone(4), 1))[0]!.wp).toBe(zone(4) + 5n);
    });
  });

  it.each([
    { zoneSectors: 0 },
    { zoneCapacitySectors: 33 },
    { conventionalCount: 9 },
    { writeGranularity: 100 },
    { maxOpenZones: -1 },
    { model: 'host-aware' as const, zoneCapacitySectors: 16 },
  ])('RangeError for %o', (options) => {
    expect(() => zonedDisk(options)).toThrow(RangeError);
  });
});
