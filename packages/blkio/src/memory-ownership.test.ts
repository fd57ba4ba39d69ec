import { describe, expect, it } from 'vitest';
import { VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { featureBit } from '@virtlab/abi/virtio';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import type { LentMemory } from '@virtlab/virtio';
import { createMemoryBench } from '@virtlab/virtio/conformance';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { createCompletions } from './completions.ts';
import { BLKIO_BROKEN, BLKIO_REQ_FUA, type BlkioQueue } from './contract.ts';
import { openBlkio } from './open.ts';
import {
  type ScriptedScene,
  DISK_FEATURES,
  takeRequests,
  useRequest,
  withScript,
} from './testing/scripted-rig.ts';
import { createVector } from './vector.ts';

const BLOCK = 512;
const PAGE = 4096;
const TIMEOUT_MS = 1000;

const INDIRECT = featureBit(VIRTIO_RING_F_INDIRECT_DESC);
const ZEROES = featureBit(VIRTIO_BLK_F_WRITE_ZEROES);

/** Keeps a rejection from being unhandled until it is looked at. */
async function outcomeOf<T>(work: Promise<T>): Promise<PromiseSettledResult<T>> {
  return (await Promise.allSettled([work]))[0];
}

/** Leaves a read of the region with the device until the disk has failed for it; the address where the device would write. */
async function loseRead({ queue, device, loops }: ScriptedScene, read: () => Promise<void>): Promise<number> {
  const lost = outcomeOf(read());
  await loops.settle();
  const [request] = takeRequests(device);
  await loops.simulation.advance(1.5 * TIMEOUT_MS);
  expect(await lost).toMatchObject({ reason: { code: 'ETIMEDOUT' } });
  expect(queue.flush(1)).toBe(BLKIO_BROKEN);
  return device.at(request!.descriptors[1]!.address);
}

describe('a disk that was closed', () => {
  it.each([
    ['direct', DISK_FEATURES],
    ['indirect', DISK_FEATURES | INDIRECT],
    ['zeroes as data', (DISK_FEATURES | INDIRECT) & ~ZEROES],
  ])(
    'writes nothing into memory that it gave back, whatever it is asked for (%s)',
    async (_name, features) => {
      await withScript({ features }, async ({ disk, queue, device, loops }) => {
        const region = disk.allocateRegion(PAGE);
        const vector = createVector();
        vector.add(region, 0, BLOCK);
        queue.write(0, region, 0, BLOCK, 1);
        queue.submit();
        useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_OK);
        const stream = queue.completions();
        const batch = stream.next();
        await loops.run(disk.close());
        expect((await batch).value).toMatchObject({ count: 1 });
        // Whatever stands there now is somebody else's.
        device.memory.u8.fill(0x5a);
        const stale = [
          queue.flush(2),
          queue.discard(0, PAGE, 3),
          queue.writeZeroes(0, BLOCK, 4, BLKIO_REQ_FUA),
        ];
        expect(stale).toEqual([BLKIO_BROKEN, BLKIO_BROKEN, BLKIO_BROKEN]);
        for (const request of [
          () => queue.read(0, region, 0, BLOCK, 5),
          () => queue.write(0, region, 0, BLOCK, 6, BLKIO_REQ_FUA),
          () => queue.readv(0, vector, 7),
          () => queue.writev(0, vector, 8),
        ])
          expect(request).toThrow(TypeError);
        const { promises } = queue;
        for (const request of [
          () => promises.flush(),
          () => promises.discard(0, PAGE),
          () => promises.writeZeroes(0, BLOCK),
        ])
          await expect(request()).rejects.toMatchObject({ code: 'ENODEV' });
        queue.submit();
        expect(await stream.next()).toMatchObject({ done: true });
        expect(queue.poll(createCompletions(1))).toBe(0);
        expect(await queue.completions().next()).toMatchObject({ done: true });
        device.call();
        await loops.simulation.advance(100_000);
        expect(device.memory.u8.findIndex((byte) => byte !== 0x5a)).toBe(-1);
      });
    },
  );

  it('has no part in the requests of the disk that was opened after it', async () => {
    const aio = createAioContext();
    const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
    const contents = new Uint8Array(1 << 20);
    const device = createBlkDevice({ backend: createMemoryBackend({ contents }) });
    const bench = createMemoryBench({ device, loops: { driverAio: aio, deviceAio: aio, settle } });
    const first = await openBlkio(bench.link, { aio });
    const stale: BlkioQueue = first.queues[0]!;
    await first.close();
    const second = await openBlkio(bench.link, { aio });
    const queue = second.queues[0]!;
    const region = second.allocateRegion(PAGE);
    region.bytes.fill(0x77);
    const done = createCompletions(4);
    for (const ask of [
      () => stale.flush(1),
      () => stale.discard(0, PAGE, 1),
      () => stale.writeZeroes(65_536, PAGE, 1),
    ]) {
      contents.fill(0x11);
      queue.write(8192, region, 0, PAGE, 2);
      expect(ask()).toBe(BLKIO_BROKEN);
      queue.submit();
      do await settle();
      while (queue.poll(done) === 0);
      expect([done.results[0], contents[8192], contents[65_536]]).toEqual([0, 0x77, 0x11]);
    }
    await second.close();
    expect(await bench.close()).toEqual([]);
  });
});

describe('a disk that failed, before its device was reset', () => {
  it('keeps regions that were given back: a late device writes into nobody else’s memory', async () => {
    await withScript({ timeoutMs: TIMEOUT_MS }, async (scene) => {
      const { disk, queue, device, loops } = scene;
      const kept = disk.allocateRegion(PAGE);
      const at = await loseRead(scene, async () => {
        using region = disk.allocateRegion(PAGE);
        await queue.promises.read(0, region, 0, BLOCK);
      });
      const held = device.leaks();
      kept[Symbol.dispose]();
      expect(device.leaks()).toEqual(held);
      expect(() => queue.read(0, kept, 0, BLOCK, 1)).toThrow(TypeError);
      // What the link gives to others meanwhile is not where the device writes.
      const { dma } = device.link;
      const other = dma.allocateCoherent(PAGE);
      device.memory.u8.fill(0xee, at, at + BLOCK);
      expect(device.memory.u8.subarray(other.offset, other.offset + PAGE).every((byte) => byte === 0)).toBe(
        true,
      );
      dma.freeCoherent(other);
      await loops.run(disk.close());
      expect(device.leaks()).toEqual([]);
    });
  });

  it('gives out no more memory, as after close', async () => {
    await withScript(
      { timeoutMs: TIMEOUT_MS, mapMemory: () => Promise.reject(new Error('asked')) },
      async (scene) => {
        const { disk, queue } = scene;
        const region = disk.allocateRegion(PAGE);
        await loseRead(scene, () => queue.promises.read(0, region, 0, BLOCK));
        const refused = { code: 'ENODEV', message: `ENODEV: ${disk.failure}` };
        expect(() => disk.allocateRegion(PAGE)).toThrow(expect.objectContaining(refused));
        await expect(disk.mapRegion(0, 0, PAGE)).rejects.toMatchObject(refused);
      },
    );
  });

  it('keeps memory of the caller’s own mapped and shown', async () => {
    const events: string[] = [];
    const lend = async (_fd: number, offset: number, size: number): Promise<LentMemory> => ({
      memory: memoryRegion(new ArrayBuffer(size)),
      offset: 0,
      size,
      addressLow: 0,
      addressHigh: 0x1000,
      [Symbol.dispose]: () => void events.push(`${offset} withdrawn`),
    });
    await withScript({ timeoutMs: TIMEOUT_MS, mapMemory: lend }, async (scene) => {
      const { disk, queue, device, loops } = scene;
      const [lost, idle, early] = await Promise.all(
        [0, PAGE, 2 * PAGE].map((at) => disk.mapRegion(3, at, PAGE)),
      );
      early![Symbol.dispose]();
      expect(events).toEqual(['8192 withdrawn']);
      const other = disk.allocateRegion(PAGE);
      await loseRead(scene, () => queue.promises.read(0, other, 0, BLOCK));
      lost![Symbol.dispose]();
      idle![Symbol.dispose]();
      expect(events).toHaveLength(1);
      const resets = device.resetCount;
      const closing = disk.close();
      expect(events).toHaveLength(1);
      await loops.run(closing);
      expect([device.resetCount, events]).toEqual([
        resets + 1,
        ['8192 withdrawn', '0 withdrawn', '4096 withdrawn'],
      ]);
    });
  });

  it('takes back what was mapped only when it had failed', async () => {
    const mapped = Promise.withResolvers<LentMemory>();
    let isWithdrawn = false;
    await withScript({ timeoutMs: TIMEOUT_MS, mapMemory: () => mapped.promise }, async (scene) => {
      const { disk, queue } = scene;
      const region = disk.allocateRegion(PAGE);
      const late = outcomeOf(disk.mapRegion(3, 0, PAGE));
      await loseRead(scene, () => queue.promises.read(0, region, 0, BLOCK));
      mapped.resolve({
        memory: memoryRegion(new ArrayBuffer(PAGE)),
        offset: 0,
        size: PAGE,
        addressLow: 0,
        addressHigh: 0x1000,
        [Symbol.dispose]: () => {
          isWithdrawn = true;
        },
      });
      expect(await late).toMatchObject({ reason: { code: 'ENODEV' } });
      expect(isWithdrawn).toBe(true);
    });
  });

  it('keeps all of it when the device does not confirm the reset', async () => {
    const closed = withScript({ timeoutMs: TIMEOUT_MS }, async ({ disk, device, loops }) => {
      const region = disk.allocateRegion(PAGE);
      device.isDeaf = true;
      const held = device.leaks();
      const closing = outcomeOf(disk.close());
      region[Symbol.dispose]();
      await loops.simulation.advance(2 * TIMEOUT_MS);
      expect(await closing).toMatchObject({ reason: { code: 'ETIMEDOUT' } });
      region[Symbol.dispose]();
      expect(device.leaks()).toEqual(held);
    });
    await expect(closed).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });
});
