import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { featureBit } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import { ADD_FULL } from '@virtlab/vring';
import type { BlkDriver } from './driver-contract.ts';
import { BLK_DRIVER_FEATURES } from './driver-options.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { createSparseBackend } from './sparse-backend.ts';
import type { BlkBench } from './testing/blk-bench.ts';
import { HeldBackend } from './testing/held-backend.ts';
import { CAPACITY, codeOf, disk, withDriver } from './testing/scenes.ts';

const SECTOR = 512;

interface Step {
  readonly name: string;
  readonly sector: number;
  readonly count: number;
  readonly fill: number;
}

/** Does the step on the disk and on its model; what differs, or nothing. */
async function perform(step: Step, driver: BlkDriver, bench: BlkBench, model: Uint8Array): Promise<string> {
  const { name, sector, fill } = step;
  const count = Math.min(step.count, CAPACITY - sector);
  const expected = model.subarray(sector * SECTOR, (sector + count) * SECTOR);
  const bytes = Uint8Array.from({ length: count * SECTOR }, (_, at) => (fill + at * 3) & 0xff);
  if (name === 'read') {
    await bench.run(driver.read(sector, bytes));
    return Buffer.from(bytes).equals(expected) ? '' : `read of ${count} sectors at ${sector} differs`;
  }
  if (name === 'write') {
    await bench.run(driver.write(sector, bytes));
    expected.set(bytes);
  } else if (name === 'zero') {
    await bench.run(driver.writeZeroes(sector, count, { unmap: fill > 100 }));
    expected.fill(0);
  } else if (name === 'discard') await bench.run(driver.discard(sector, count));
  else await bench.run(driver.flush());
  return '';
}

describe("promises over the caller's bytes", () => {
  const sectors = fc.nat(CAPACITY - 1);
  const operations = fc.array(
    fc.record({
      name: fc.constantFrom('read', 'write', 'zero', 'discard', 'flush'),
      sector: sectors,
      count: fc.integer({ min: 0, max: 40 }),
      fill: fc.nat(255),
    }),
    { minLength: 1, maxLength: 25 },
  );
  const policies = fc.constantFrom('calm', 'coalescing', 'late', 'spurious');
  const indirect = featureBit(VIRTIO_RING_F_INDIRECT_DESC);

  it('a disk gives back what was written, over any doorbells, ring sizes and limits', async () => {
    await fc.assert(
      fc.asyncProperty(
        operations,
        fc.record({
          doorbells: policies,
          seed: fc.integer(),
          polling: fc.boolean(),
          queueCount: fc.integer({ min: 1, max: 3 }),
          queueSize: fc.constantFrom(4, 8, 64),
          sizeMax: fc.constantFrom(512, 3000, 65536),
          wanted: fc.constantFrom(BLK_DRIVER_FEATURES, BLK_DRIVER_FEATURES & ~indirect),
        }),
        async (steps, { doorbells, seed, polling, queueCount, queueSize, sizeMax, wanted }) => {
          const contents = disk();
          const model = disk();
          await withDriver(
            createMemoryBackend({ contents }),
            async (driver, bench) => {
              for (const step of steps) expect(await perform(step, driver, bench, model)).toBe('');
              expect(Buffer.from(contents).equals(model)).toBe(true);
              expect(driver.statistics).toMatchObject({ failures: 0, shortCompletions: 0 });
            },
            {
              bench: { doorbells, seed, polling },
              device: { queueCount, queueSize, sizeMax, writeZeroesSectorsMax: 16 },
              driver: { queueCount, wanted, bounceSize: 4096, bounceCount: 3 },
            },
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  it('many at once wait their turn, share doorbells, and all end', async () => {
    const contents = disk();
    await withDriver(
      createMemoryBackend({ contents }),
      async (driver, bench) => {
        const targets = Array.from({ length: 100 }, () => new Uint8Array(SECTOR));
        await bench.run(Promise.all(targets.map((target, sector) => driver.read(sector, target))));
        expect(Buffer.concat(targets).equals(contents.subarray(0, 100 * SECTOR))).toBe(true);
        const { requests, kicks, calls } = driver.statistics;
        expect(requests).toBe(100);
        expect(Math.max(kicks, calls)).toBeLessThanOrEqual(20);
      },
      { driver: { queueSize: 8 } },
    );
  });

  it('one larger than the bounce buffers together is cut into as many requests as it takes', async () => {
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => {
        const target = new Uint8Array(CAPACITY * SECTOR);
        await bench.run(driver.read(0, target));
        expect(Buffer.from(target).equals(disk())).toBe(true);
        expect(driver.statistics.requests).toBe((CAPACITY * SECTOR) / 4096);
      },
      { driver: { bounceSize: 4096, bounceCount: 2 } },
    );
  });

  it('reads the serial', async () => {
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => expect(await bench.run(driver.getId())).toBe('virtlab-0001'),
      { device: { serial: 'virtlab-0001' } },
    );
  });

  it("discards and zeroes ranges beyond 2^32 sectors, cut to the device's limits", async () => {
    const backend = createSparseBackend({ capacitySectors: 2 ** 40 });
    await withDriver(backend, async (driver, bench) => {
      const sector = 2 ** 39 + 5;
      await bench.run(driver.write(sector, new Uint8Array(SECTOR).fill(9)));
      const target = new Uint8Array(3 * SECTOR);
      await bench.run(driver.read(sector - 1, target));
      expect([target[511], target[512], target[1024]]).toEqual([0, 9, 0]);
      await bench.run(driver.discard(2 ** 39, 2 ** 24));
      expect(backend.allocatedSize).toBe(0);
      expect(driver.statistics.requests).toBe(2 + Math.ceil(2 ** 24 / 0x3f_ffff));
    });
  });

  it('§5.2.6.2 flush is acknowledged only when the device has done it; without the feature it is nothing', async () => {
    const backend = new HeldBackend(createMemoryBackend({ contents: disk() }));
    await withDriver(backend, async (driver, bench) => {
      let isFlushed = false;
      const flushed = driver.flush().then(() => (isFlushed = true));
      await bench.settle();
      expect([backend.held, isFlushed]).toEqual([['flush'], false]);
      backend.end();
      await bench.run(flushed);
    });
    const wanted = BLK_DRIVER_FEATURES & ~featureBit(VIRTIO_BLK_F_FLUSH);
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => {
        await bench.run(driver.flush());
        expect(driver.statistics.requests).toBe(0);
      },
      { driver: { wanted } },
    );
  });
});

describe('errors of requests', () => {
  it('outside the disk: ERANGE; no whole sectors: RangeError; nothing reaches the device', async () => {
    await withDriver(createMemoryBackend({ contents: disk() }), async (driver, bench) => {
      const bytes = new Uint8Array(2 * SECTOR);
      expect(await bench.run(codeOf(driver.read(CAPACITY - 1, bytes)))).toBe('ERANGE');
      expect(await bench.run(codeOf(driver.write(CAPACITY, bytes)))).toBe('ERANGE');
      expect(await bench.run(codeOf(driver.read(-1, bytes)))).toBe('ERANGE');
      expect(await bench.run(codeOf(driver.read(0.5, bytes)))).toBe('ERANGE');
      expect(await bench.run(codeOf(driver.discard(0, CAPACITY + 1)))).toBe('ERANGE');
      expect(await bench.run(codeOf(driver.read(0, bytes.subarray(1))))).toBe('RangeError');
      expect(driver.statistics.requests).toBe(0);
    });
  });

  it('read-only disk: EROFS; not offered: UNSUPP', async () => {
    await withDriver(createMemoryBackend({ contents: disk(), readOnly: true }), async (driver, bench) => {
      expect(driver.readOnly).toBe(true);
      expect(await bench.run(codeOf(driver.write(0, new Uint8Array(SECTOR))))).toBe('EROFS');
      expect(await bench.run(codeOf(driver.writeZeroes(0, 1)))).toBe('EROFS');
      expect(() => driver.submitWrite(0, 0, SECTOR, 0)).toThrow('EROFS');
    });
    const wanted =
      BLK_DRIVER_FEATURES & ~featureBit(VIRTIO_BLK_F_DISCARD) & ~featureBit(VIRTIO_BLK_F_WRITE_ZEROES);
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => {
        expect(await bench.run(codeOf(driver.discard(0, 1)))).toBe('UNSUPP');
        expect(await bench.run(codeOf(driver.writeZeroes(0, 1)))).toBe('UNSUPP');
      },
      { driver: { wanted } },
    );
  });

  it('what the device reports is the code; a failed part fails the whole; the disk works on', async () => {
    const backend = new HeldBackend(createMemoryBackend({ contents: disk() }));
    await withDriver(
      backend,
      async (driver, bench) => {
        const code = codeOf(driver.write(0, new Uint8Array(3 * 4096)));
        await bench.until('begun', () => backend.held.length === 3);
        backend.end(1, VIRTIO_BLK_S_IOERR);
        backend.endAll();
        expect(await bench.run(code)).toBe('IOERR');
        const again = driver.read(0, new Uint8Array(SECTOR));
        await bench.until('begun', () => backend.held.length === 1);
        backend.end();
        await bench.run(again);
        expect(driver.statistics).toMatchObject({ requests: 4, completions: 4, failures: 1 });
      },
      { driver: { bounceSize: 4096 } },
    );
  });

  it('no device address for the buffers: waits for others to end, and is ENOSPC when there are none', async () => {
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => {
        const targets = Array.from({ length: 10 }, () => new Uint8Array(SECTOR));
        await bench.run(Promise.all(targets.map((target, sector) => driver.read(sector, target))));
        expect(Buffer.concat(targets).equals(disk().subarray(0, 10 * SECTOR))).toBe(true);
      },
      { bench: { dma: new HostileDmaMapper({ memorySize: 2 << 20, shareMax: 2 }) } },
    );
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => {
        expect(await bench.run(codeOf(driver.read(0, new Uint8Array(SECTOR))))).toBe('ENOSPC');
        await bench.run(driver.flush());
      },
      { bench: { dma: new HostileDmaMapper({ memorySize: 2 << 20, shareMax: 0 }) } },
    );
  });
});

describe('the data plane', () => {
  it('a batch is one kick and at most one call, and copies nothing', async () => {
    const contents = disk();
    await withDriver(createMemoryBackend({ contents }), async (driver, bench) => {
      const buffer = driver.allocateBuffer(16 * SECTOR);
      const ended: [number, number][] = [];
      driver.onCompletion((token, completion) => ended.push([token, completion]));
      driver.memory.u8.fill(0x77, buffer, buffer + 8 * SECTOR);
      for (let token = 0; token < 8; token += 1) {
        expect(driver.submitWrite(token, buffer + token * SECTOR, SECTOR, token)).toBe(0);
      }
      await bench.settle();
      expect([driver.inFlightCount, ended.length]).toEqual([8, 0]);
      driver.kick();
      await bench.until('written', () => ended.length === 8);
      expect(ended).toEqual(Array.from({ length: 8 }, (_, token) => [token, VIRTIO_BLK_S_OK]));
      expect(contents.subarray(0, 8 * SECTOR).every((byte) => byte === 0x77)).toBe(true);
      expect(driver.statistics).toMatchObject({ requests: 8, kicks: 1, calls: 1 });
      driver.submitRead(8, buffer + 8 * SECTOR, 8 * SECTOR, 0x7fff_ffff);
      driver.submitFlush(5);
      driver.kick();
      await bench.until('read', () => ended.length === 10);
      expect(ended.slice(8).toSorted(([a], [b]) => a - b)).toEqual([
        [5, VIRTIO_BLK_S_OK],
        [0x7fff_ffff, VIRTIO_BLK_S_OK],
      ]);
      const read = driver.memory.u8.subarray(buffer + 8 * SECTOR, buffer + 16 * SECTOR);
      expect(Buffer.from(read).equals(contents.subarray(8 * SECTOR, 16 * SECTOR))).toBe(true);
      driver.freeBuffer(buffer);
      expect(() => driver.freeBuffer(buffer)).toThrow(RangeError);
    });
  });

  it('ADD_FULL when all requests are in flight; what completions submit is kicked with their batch', async () => {
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => {
        const buffer = driver.allocateBuffer(4 * SECTOR);
        const at = (token: number): number => buffer + token * SECTOR;
        const left = 100;
        let begun = 4;
        let ended = 0;
        for (let token = 0; token < 4; token += 1)
          expect(driver.submitRead(0, at(token), SECTOR, token)).toBe(0);
        expect(driver.submitRead(0, at(0), SECTOR, 4)).toBe(ADD_FULL);
        driver.onCompletion((token) => {
          ended += 1;
          if (begun < left && driver.submitRead(token, at(token), SECTOR, token) === 0) begun += 1;
        });
        driver.kick();
        await bench.until('all ended', () => ended === left);
        expect(driver.statistics.requests).toBe(left);
        expect(driver.statistics.kicks).toBeLessThanOrEqual(left / 4 + 1);
      },
      { driver: { queueDepth: 4 } },
    );
  });

  it('throws for misuse and stages nothing', async () => {
    await withDriver(createMemoryBackend({ contents: disk() }), async (driver) => {
      const buffer = driver.allocateBuffer(SECTOR);
      const wrong: (readonly [number, number, number, number])[] = [
        [CAPACITY, buffer, SECTOR, 0],
        [0, buffer, 100, 0],
        [0, buffer, 0, 0],
        [0, buffer, driver.transferSizeMax + SECTOR, 0],
        [0, driver.memory.size, SECTOR, 0],
        [0, -1, SECTOR, 0],
        [0, buffer, SECTOR, -1],
        [0, buffer, SECTOR, 2 ** 31],
      ];
      for (const call of wrong) expect(() => driver.submitRead(...call)).toThrow(RangeError);
      expect(driver.inFlightCount).toBe(0);
    });
  });

  it.each([
    ['with', BLK_DRIVER_FEATURES, 6],
    ['without', BLK_DRIVER_FEATURES & ~featureBit(VIRTIO_RING_F_INDIRECT_DESC), 4],
  ])(
    '§2.7.5.3.1 a request fits the ring whatever seg_max says, %s indirect',
    async (_what, wanted, segments) => {
      await withDriver(
        createMemoryBackend({ contents: disk() }),
        async (driver, bench) => {
          expect(driver.transferSizeMax).toBe(segments * SECTOR);
          const target = new Uint8Array(CAPACITY * SECTOR);
          await bench.run(driver.read(0, target));
          expect(Buffer.from(target).equals(disk())).toBe(true);
        },
        { device: { queueSize: 8, segMax: 100, sizeMax: SECTOR }, driver: { wanted } },
      );
    },
  );

  it("a device's limits on segments are kept within one request", async () => {
    const contents = disk();
    await withDriver(
      createMemoryBackend({ contents }),
      async (driver, bench) => {
        expect(driver.transferSizeMax).toBe(3 * 1024);
        const buffer = driver.allocateBuffer(3 * 1024);
        let completion: number | undefined;
        driver.onCompletion((_token, status) => (completion = status));
        driver.submitRead(1, buffer, 3 * 1024, 0);
        driver.kick();
        await bench.until('ended', () => completion !== undefined);
        expect(completion).toBe(VIRTIO_BLK_S_OK);
        const read = driver.memory.u8.subarray(buffer, buffer + 3 * 1024);
        expect(Buffer.from(read).equals(contents.subarray(SECTOR, 7 * SECTOR))).toBe(true);
      },
      { device: { sizeMax: 1100, segMax: 3 } },
    );
  });
});
