import { describe, expect, it } from 'vitest';
import { VIRTIO_BLK_S_OK, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_OUT } from '@virtlab/abi/virtio-blk';
import { ADD_FULL } from '@virtlab/vring';
import { createBlkDevice } from './device.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { COMPLETION_ECANCELED } from './errors.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { RawRequester } from './testing/request.ts';
import { codeOf, disk, heldDisk, withDriver } from './testing/scenes.ts';

const SECTOR = 512;

describe('§5.2.2 several queues', () => {
  it('the device counts by queue, and in all', async () => {
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: disk() }), queueCount: 3 });
    const bench = new BlkBench({ device });
    const session = await bench.initialize(device.features);
    const requesters = [0, 1, 2].map((queue) => new RawRequester(session, queue));
    for (const [queue, requester] of requesters.entries()) {
      for (let count = 0; count <= queue; count += 1) await requester.send(bench, { dataSize: SECTOR });
    }
    await requesters[2]!.send(bench, { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR) });
    expect(device.queueStatistics.map(({ reads, writes }) => [reads, writes])).toEqual([
      [1, 0],
      [2, 0],
      [3, 1],
    ]);
    expect(device.statistics).toMatchObject({
      reads: 6,
      writes: 1,
      readSize: 6 * SECTOR,
      writtenSize: SECTOR,
    });
    for (const requester of requesters) await bench.run(requester.stop());
    await bench.closeClean();
  });

  it('§5.2.6.2 a flush on one queue covers what completed on another', async () => {
    const backend = heldDisk();
    const device = createBlkDevice({ backend, queueCount: 2 });
    const bench = new BlkBench({ device });
    const session = await bench.initialize(device.features);
    const [writer, flusher] = [new RawRequester(session, 0), new RawRequester(session, 1)];
    const written = writer.add({ type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR) });
    writer.kick();
    await bench.settle();
    backend.end();
    await bench.settle();
    expect(writer.answer(written)!.status).toBe(VIRTIO_BLK_S_OK);
    const flushed = flusher.add({ type: VIRTIO_BLK_T_FLUSH });
    flusher.kick();
    await bench.settle();
    expect([backend.begun, flusher.answer(flushed)]).toEqual([['write 0+512', 'flush'], undefined]);
    backend.end();
    await bench.settle();
    expect(flusher.answer(flushed)!.status).toBe(VIRTIO_BLK_S_OK);
    await bench.run(writer.stop());
    await bench.run(flusher.stop());
    await bench.closeClean();
  });

  it('the driver spreads requests over the least loaded, unless told where to put them', async () => {
    const backend = heldDisk();
    await withDriver(
      backend,
      async (driver, bench) => {
        const buffer = driver.allocateBuffer(16 * SECTOR);
        let token = 0;
        const submit = (queue?: number): void => {
          expect(driver.submitRead(0, buffer + (token % 16) * SECTOR, SECTOR, token, queue)).toBe(0);
          token += 1;
        };
        const inFlight = (): number[] =>
          driver.queueStatistics.map(({ requests, completions }) => requests - completions);
        for (let count = 0; count < 3; count += 1) submit(1);
        for (let count = 0; count < 6; count += 1) submit();
        expect(inFlight()).toEqual([3, 3, 3]);
        driver.kick();
        await bench.until('all begun', () => backend.held.length === 9);
        expect(driver.queueStatistics.map(({ kicks }) => kicks)).toEqual([1, 1, 1]);
        backend.endAll();
        await bench.until('all ended', () => driver.inFlightCount === 0);
        expect(inFlight()).toEqual([0, 0, 0]);
        expect(() => driver.submitRead(0, buffer, SECTOR, 0, 3)).toThrow(RangeError);
      },
      { device: { queueCount: 3, queueSize: 16 }, driver: { queueCount: 3 } },
    );
  });

  it('a driver of one queue before a device of four, and of four before a device of two', async () => {
    for (const [device, driver, used] of [
      [4, 1, 1],
      [2, 4, 2],
    ] as const) {
      await withDriver(
        createMemoryBackend({ contents: disk() }),
        async (each, bench) => {
          await bench.run(each.read(0, new Uint8Array(SECTOR)));
          expect(each.queueStatistics.length).toBe(used);
        },
        { device: { queueCount: device }, driver: { queueCount: driver } },
      );
    }
  });
});

describe('§2.6.1 reset of one queue', () => {
  it('case 43: waits for what the backend has begun; the driver is told ECANCELED, other queues go on', async () => {
    const backend = heldDisk();
    await withDriver(
      backend,
      async (driver, bench) => {
        const buffer = driver.allocateBuffer(4 * SECTOR);
        const ended: [number, number][] = [];
        driver.onCompletion((token, completion) => ended.push([token, completion]));
        driver.submitRead(0, buffer, SECTOR, 0, 0);
        driver.submitRead(1, buffer + SECTOR, SECTOR, 1, 1);
        driver.submitRead(2, buffer + 2 * SECTOR, SECTOR, 2, 0);
        driver.kick();
        await bench.until('all begun', () => backend.held.length === 3);
        let isReset = false;
        const reset = driver.resetQueue(0, 8).then(() => (isReset = true));
        await bench.settle();
        expect([isReset, ended]).toEqual([false, []]);
        const index = backend.held.indexOf('read 512+512');
        backend.end(index);
        await bench.until('the other queue ended', () => ended.length === 1);
        expect([isReset, ended]).toEqual([false, [[1, VIRTIO_BLK_S_OK]]]);
        backend.endAll();
        await bench.run(reset);
        expect(ended.toSorted(([a], [b]) => a - b)).toEqual([
          [0, COMPLETION_ECANCELED],
          [1, VIRTIO_BLK_S_OK],
          [2, COMPLETION_ECANCELED],
        ]);
        driver.submitRead(3, buffer, SECTOR, 3, 0);
        driver.kick();
        await bench.until('begun', () => backend.held.length === 1);
        backend.endAll();
        await bench.until('ended', () => driver.inFlightCount === 0);
        expect(ended.at(-1)).toEqual([3, VIRTIO_BLK_S_OK]);
        expect(driver.memory.u8[buffer]).toBe(disk()[3 * SECTOR]);
      },
      { device: { queueCount: 2, queueSize: 16 }, driver: { queueCount: 2 } },
    );
  });

  it('promises on it reject, those that wait go on afterwards, and it can be done again and again', async () => {
    const backend = heldDisk();
    await withDriver(backend, async (driver, bench) => {
      for (let round = 0; round < 3; round += 1) {
        const code = codeOf(driver.read(0, new Uint8Array(SECTOR)));
        await bench.until('begun', () => backend.held.length === 1);
        const reset = driver.resetQueue(0);
        const later = codeOf(driver.read(1, new Uint8Array(SECTOR)));
        await bench.settle();
        backend.endAll();
        await bench.run(reset);
        expect(await bench.run(code)).toBe('ECANCELED');
        await bench.until('the later one begun', () => backend.held.length === 1);
        backend.endAll();
        expect(await bench.run(later)).toBe('resolved');
      }
      expect(driver.failure).toBeUndefined();
    });
  });

  it.each([1, 2])(
    'of a disk of %i queues where nothing is in flight: what is asked for meanwhile waits',
    async (queueCount) => {
      const contents = disk();
      await withDriver(
        createMemoryBackend({ contents }),
        async (driver, bench) => {
          const resets = Array.from({ length: queueCount }, (_, queue) => driver.resetQueue(queue));
          const target = new Uint8Array(SECTOR);
          const works = [
            driver.read(2, target),
            driver.write(3, new Uint8Array(SECTOR).fill(0x33)),
            driver.flush(),
            driver.writeZeroes(4, 1),
          ];
          expect([driver.submitFlush(1), driver.inFlightCount]).toEqual([ADD_FULL, 0]);
          await bench.run(Promise.all([...resets, ...works]));
          expect(target).toEqual(disk().subarray(2 * SECTOR, 3 * SECTOR));
          expect([contents[3 * SECTOR], contents[4 * SECTOR + 1]]).toEqual([0x33, 0]);
        },
        { device: { queueCount }, driver: { queueCount } },
      );
    },
  );

  it('a second one during the first is refused, and the queue stays closed until the first is over', async () => {
    await withDriver(createMemoryBackend({ contents: disk() }), async (driver, bench) => {
      const ended: [number, number][] = [];
      driver.onCompletion((token, completion) => ended.push([token, completion]));
      const buffer = driver.allocateBuffer(SECTOR);
      const first = driver.resetQueue(0, 8);
      await expect(driver.resetQueue(0)).rejects.toThrow(TypeError);
      expect(driver.submitRead(0, buffer, SECTOR, 0)).toBe(ADD_FULL);
      await bench.run(first);
      expect(driver.submitRead(0, buffer, SECTOR, 1)).toBe(0);
      driver.kick();
      await bench.until('ended', () => ended.length === 1);
      expect([ended, driver.failure]).toEqual([[[1, VIRTIO_BLK_S_OK]], undefined]);
    });
  });

  it('a reset of the whole device during that of a queue ends both', async () => {
    const backend = heldDisk();
    const device = createBlkDevice({ backend });
    const bench = new BlkBench({ device });
    const requester = new RawRequester(await bench.initialize(device.features));
    requester.add({ dataSize: SECTOR });
    requester.kick();
    await bench.until('begun', () => backend.held.length === 1);
    const reset = codeOf(requester.session.resetQueue(0));
    await bench.settle();
    const stopped = requester.stop();
    await bench.settle();
    backend.endAll();
    await bench.run(stopped);
    expect(await bench.run(reset)).toBe('ENODEV');
    expect(device.inFlightCount).toBe(0);
    await bench.closeClean();
  });
});
