import { describe, expect, it } from 'vitest';
import { ADD_BROKEN } from '@virtlab/vring';
import { createBlkDevice } from './device.ts';
import { createBlkDriver } from './driver.ts';
import { COMPLETION_ENODEV, COMPLETION_ETIMEDOUT } from './errors.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { codeOf, disk, heldDisk, withDriver } from './testing/scenes.ts';

const SECTOR = 512;

const TIMEOUT_MS = 30_000;

describe('ends', () => {
  it('a request that never completes is ETIMEDOUT after its deadline; younger ones lose their device', async () => {
    const backend = heldDisk();
    await withDriver(backend, async (driver, bench) => {
      const ended: [number, number][] = [];
      const buffer = driver.allocateBuffer(2 * SECTOR);
      driver.onCompletion((token, completion) => ended.push([token, completion]));
      const old = codeOf(driver.read(0, new Uint8Array(SECTOR)));
      driver.submitRead(0, buffer, SECTOR, 1);
      await bench.until('begun', () => backend.held.length === 2);
      await bench.advance(TIMEOUT_MS / 2);
      driver.submitRead(0, buffer + SECTOR, SECTOR, 2);
      driver.kick();
      await bench.settle();
      expect([driver.failure, ended]).toEqual([undefined, []]);
      await bench.advance(TIMEOUT_MS / 2 + 1000);
      expect(await bench.run(old)).toBe('ETIMEDOUT');
      expect(ended).toEqual([
        [1, COMPLETION_ETIMEDOUT],
        [2, COMPLETION_ENODEV],
      ]);
      expect(driver.failure).toContain('30000 ms');
      expect(driver.submitRead(0, buffer, SECTOR, 3)).toBe(ADD_BROKEN);
      expect(await bench.run(codeOf(driver.read(0, new Uint8Array(SECTOR))))).toBe('ENODEV');
      backend.endAll();
      await bench.settle();
      expect(ended, 'a completion that comes too late is no second one').toHaveLength(2);
      expect(driver.statistics).toMatchObject({ requests: 3, completions: 3 });
    });
  });

  it('a request that follows one that ended has a deadline of its own', async () => {
    const backend = heldDisk();
    await withDriver(backend, async (driver, bench) => {
      const first = driver.read(0, new Uint8Array(SECTOR));
      await bench.settle();
      await bench.advance(TIMEOUT_MS / 2);
      const second = codeOf(driver.read(0, new Uint8Array(SECTOR)));
      await bench.settle();
      backend.end();
      await bench.run(first);
      await bench.advance(TIMEOUT_MS / 2);
      expect(driver.failure, 'when the first would have been due').toBeUndefined();
      await bench.advance(TIMEOUT_MS / 2);
      expect(await bench.run(second)).toBe('ETIMEDOUT');
      backend.endAll();
    });
  });

  it('an idle driver has no deadline', async () => {
    await withDriver(createMemoryBackend({ contents: disk() }), async (driver, bench) => {
      await bench.run(driver.read(0, new Uint8Array(SECTOR)));
      await bench.advance(10 * TIMEOUT_MS);
      expect(driver.failure).toBeUndefined();
      await bench.run(driver.read(0, new Uint8Array(SECTOR)));
    });
  });

  it('device removed: in flight and waiting requests reject with the reason, once', async () => {
    const backend = heldDisk();
    await withDriver(
      backend,
      async (driver, bench) => {
        const works = Array.from({ length: 9 }, () => driver.read(0, new Uint8Array(SECTOR)));
        const outcomes = Promise.allSettled(works);
        await bench.until('begun', () => backend.held.length === 4);
        const removed = bench.removeDevice('unplugged');
        await bench.settle();
        backend.endAll();
        await removed;
        for (const outcome of await bench.run(outcomes)) {
          expect(outcome).toMatchObject({ reason: { code: 'ENODEV' } });
          expect((outcome as PromiseRejectedResult).reason.message).toContain('unplugged');
        }
        expect(driver.inFlightCount).toBe(0);
      },
      { driver: { queueDepth: 4 } },
    );
  });

  it('close rejects what is in flight, resets the device and takes all memory back; twice is once', async () => {
    const backend = heldDisk();
    await withDriver(backend, async (driver, bench) => {
      const buffer = driver.allocateBuffer(SECTOR);
      driver.submitRead(0, buffer, SECTOR, 0);
      const code = codeOf(driver.read(0, new Uint8Array(SECTOR)));
      await bench.until('begun', () => backend.held.length === 2);
      const closing = driver.close();
      expect(driver.close()).toBe(closing);
      expect(await bench.run(code)).toBe('ENODEV');
      expect(bench.host.status).not.toBe(0);
      backend.endAll();
      await bench.run(closing);
      expect(bench.host.status).toBe(0);
      expect(() => driver.allocateBuffer(SECTOR)).toThrow('ENODEV');
    });
  });

  it('a new driver takes the disk over after the old one closed', async () => {
    const contents = disk();
    const bench = new BlkBench({ device: createBlkDevice({ backend: createMemoryBackend({ contents }) }) });
    for (let round = 0; round < 3; round += 1) {
      const driver = await bench.run(createBlkDriver(bench.link, { aio: bench.aio }));
      await bench.run(driver.write(round, new Uint8Array(SECTOR).fill(round + 1)));
      await bench.run(driver.close());
    }
    expect([contents[0], contents[SECTOR], contents[2 * SECTOR]]).toEqual([1, 2, 3]);
    await bench.closeClean();
  });
});
