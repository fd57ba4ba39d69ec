/** A device that answers anything, at any time, in any order: the driver reports every request once and gives all back. */
import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_LIFETIME,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_ZONED,
} from '@virtlab/abi/virtio-blk';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import type { BlkDriver } from './driver-contract.ts';
import { createBlkDriver } from './driver.ts';
import { ZONED_CONFIG_SIZE, encodeConfig } from './protocol.ts';
import { CAMPAIGN_TIMEOUT_MS, campaign } from './testing/campaign.ts';
import { createScriptedDisk, type SeenRequest, takeRequests, useRequest } from './testing/scripted-disk.ts';

const SECTOR = 512;
const FEATURES = featureBits(
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_LIFETIME,
  VIRTIO_BLK_F_ZONED,
);
const CONFIG = encodeConfig(
  {
    capacity: 1000n,
    seg_max: 4,
    blk_size: 512,
    zone_sectors: 100,
    max_append_sectors: 8,
    write_granularity: 512,
    model: 2,
  },
  ZONED_CONFIG_SIZE,
);

const moves = fc.array(
  fc.record({
    name: fc.constantFrom(
      'read',
      'write',
      'flush',
      'discard',
      'zone',
      'lifetime',
      'plane',
      'answer',
      'answer',
      'answer',
      'lie',
      'config',
    ),
    which: fc.nat(30),
    status: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(0, 0, 0, 1, 2, 3, 6) }, fc.nat(255)),
    usedSize: fc.oneof(fc.constant(undefined), fc.constantFrom(0, 1, 513, 0xffff_ffff)),
    noise: fc.uint8Array({ minLength: 64, maxLength: 64 }),
  }),
  { minLength: 1, maxLength: 40 },
);

/** Begins one request; settles with nothing, however it ends. */
function begin(name: string, driver: BlkDriver, which: number): Promise<unknown> | undefined {
  switch (name) {
    case 'read':
      return driver.read(which, new Uint8Array(((which % 3) + 1) * SECTOR));
    case 'write':
      return driver.write(which, new Uint8Array(SECTOR));
    case 'flush':
      return driver.flush();
    case 'discard':
      return driver.discard(which, 3);
    case 'zone':
      return which % 2 === 0 ? driver.zones!.report(0, 4) : driver.zones!.append(100, new Uint8Array(SECTOR));
    case 'lifetime':
      return driver.getLifetime();
    default:
      return undefined;
  }
}

describe('a hostile device, fuzzed', () => {
  it(
    'every request ends once, nothing is thrown into the loop, nothing stays lent',
    async () => {
      await fc.assert(
        fc.asyncProperty(moves, async (all) => {
          const loops = new SimulatedLoops(1);
          const disk = createScriptedDisk({ features: FEATURES, config: CONFIG });
          const driver = await loops.run(createBlkDriver(disk.link, { aio: loops.driverAio }));
          const ends = new Map<number, number>();
          driver.onCompletion((token) => ends.set(token, (ends.get(token) ?? 0) + 1));
          const buffer = driver.allocateBuffer(SECTOR);
          const works: Promise<unknown>[] = [];
          const waiting: SeenRequest[] = [];
          let submitted = 0;
          for (const { name, which, status, usedSize, noise } of all) {
            if (name === 'answer' || name === 'lie') {
              if (driver.failure === undefined) waiting.push(...takeRequests(disk));
              const [request] = waiting.splice(which % Math.max(waiting.length, 1), 1);
              const at = request === undefined ? 0 : disk.at(request.descriptors.at(-1)!.address);
              if (request !== undefined) disk.memory.u8.set(noise.subarray(0, 8), Math.max(at - 8, 0));
              if (request !== undefined && name === 'answer') useRequest(disk, request, status, usedSize);
              else if (name === 'lie') disk.rings[0]!.use(status * 3, 0);
              disk.call();
            } else if (name === 'config') {
              const bytes = CONFIG.slice();
              bytes.set(noise.subarray(0, 8 + (which % 16)), which % 3 === 0 ? 0 : 72);
              disk.changeConfig(bytes);
            } else if (name === 'plane') {
              if (driver.capacitySectors > 0 && driver.submitRead(0, buffer, SECTOR, submitted) === 0)
                submitted += 1;
              driver.kick();
            } else works.push(Promise.allSettled([begin(name, driver, which)]));
            await loops.settle();
          }
          await loops.run(driver.close());
          await loops.run(Promise.all(works));
          expect([...ends.values()].every((count) => count === 1)).toBe(true);
          expect(ends.size).toBe(submitted);
          expect(driver.inFlightCount).toBe(0);
          expect([...disk.leaks(), ...loops.driverAio.leaks()]).toEqual([]);
        }),
        campaign(120),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );

  it(
    'any configuration: a driver that works by what it says, or EPROTO and the device let go',
    async () => {
      const features = FEATURES | featureBits(VIRTIO_BLK_F_SIZE_MAX);
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ minLength: 96, maxLength: 96 }), fc.nat(95), async (noise, from) => {
          const loops = new SimulatedLoops(1);
          const config = CONFIG.slice();
          config.set(noise.subarray(from), from);
          const disk = createScriptedDisk({ features, config });
          const outcome = await loops.run(
            createBlkDriver(disk.link, { aio: loops.driverAio }).then(
              (driver) => driver,
              (error: Error) => error,
            ),
          );
          const seen =
            outcome instanceof Error
              ? { code: (outcome as Error & { code?: string }).code, transfer: 0, capacity: 0 }
              : {
                  code: 'EPROTO',
                  transfer: outcome.transferSizeMax % SECTOR,
                  capacity: outcome.capacitySectors,
                };
          expect(seen).toMatchObject({ code: 'EPROTO', transfer: 0 });
          expect(seen.capacity).toBeLessThanOrEqual(2 ** 44);
          if (!(outcome instanceof Error)) await loops.run(outcome.close());
          expect([...disk.leaks(), ...loops.driverAio.leaks()]).toEqual([]);
        }),
        campaign(200),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );
});
