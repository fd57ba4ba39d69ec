import { describe, expect, it } from 'vitest';
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { ScriptedTransport, SimulatedLoops } from '@virtlab/virtio/testing';
import { createCompletions } from './completions.ts';
import type { BlkioQueue } from './contract.ts';
import { RESULT_ENODEV, RESULT_EPROTO, RESULT_ETIMEDOUT } from './errors.ts';
import { openBlkio } from './open.ts';
import { configBytes, takeRequests, useRequest, withScript } from './testing/scripted-rig.ts';

const BLOCK = 512;

function polled(queue: BlkioQueue): [number, number][] {
  const into = createCompletions(16);
  queue.poll(into);
  return Array.from({ length: into.count }, (_, at) => [into.tokens[at]!, into.results[at]!]);
}

describe('a device that does what none may', () => {
  it('§2.7.8 completes what it was not given: the disk fails, in-flight requests end with ENODEV', async () => {
    await withScript({}, async ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.submit();
      device.rings[0]!.use(9, 1);
      expect(polled(queue)).toEqual([]);
      expect(disk.failure).toMatch(/queue 0: §2.7.8/);
      expect(polled(queue)).toEqual([[1, RESULT_ENODEV]]);
    });
  });

  it('the same found by the loop: promises reject, the stream gives the rest and ends', async () => {
    await withScript({}, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      const lost = queue.promises.read(0, region, 0, BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.submit();
      const stream = queue.completions();
      const batch = stream.next();
      await loops.settle();
      device.rings[0]!.use(9, 1);
      device.call();
      await expect(loops.run(lost)).rejects.toMatchObject({ code: 'ENODEV' });
      expect((await batch).value).toMatchObject({ count: 1 });
      expect(await stream.next()).toEqual({ done: true, value: undefined });
    });
  });

  it('leaves no status, or one that does not exist: EPROTO, and the disk lives', async () => {
    await withScript({}, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      for (const [token, status] of [undefined, 3, 0x80].entries()) {
        queue.read(0, region, 0, BLOCK, token);
        queue.submit();
        useRequest(device, takeRequests(device)[0]!, status);
        expect(polled(queue)).toEqual([[token, RESULT_EPROTO]]);
      }
      queue.read(0, region, 0, BLOCK, 9);
      queue.submit();
      useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_OK);
      expect([polled(queue), disk.failure]).toEqual([[[9, 0]], undefined]);
    });
  });

  it('overwrites a header after it was read: nothing of it is believed', async () => {
    await withScript({}, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.submit();
      const [first] = takeRequests(device);
      device.memory.u8.fill(
        0xff,
        device.at(first!.descriptors[0]!.address),
        device.at(first!.descriptors[0]!.address) + 16,
      );
      useRequest(device, first!, VIRTIO_BLK_S_OK);
      expect(polled(queue)).toEqual([[1, 0]]);
      queue.read(BLOCK, region, 0, BLOCK, 2);
      queue.submit();
      expect(takeRequests(device)[0]).toMatchObject({ type: 0, sector: 1n, reserved: 0 });
    });
  });

  it('never completes: after the time, ETIMEDOUT for what is overdue and ENODEV for what is not', async () => {
    await withScript({ timeoutMs: 1000 }, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.submit();
      await loops.simulation.advance(900);
      queue.read(0, region, 0, BLOCK, 2);
      queue.submit();
      expect([device.available(), disk.failure]).toEqual([2, undefined]);
      await loops.simulation.advance(400);
      expect(disk.failure).toBe('a request was not completed within 1000 ms');
      expect(polled(queue)).toEqual([
        [1, RESULT_ETIMEDOUT],
        [2, RESULT_ENODEV],
      ]);
    });
  });

  it('what completed in time is not overdue because nobody looked, and what was not submitted never is', async () => {
    await withScript({ timeoutMs: 1000 }, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.submit();
      useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_OK);
      queue.read(0, region, 0, BLOCK, 2);
      await loops.simulation.advance(10_000);
      expect([disk.failure, polled(queue)]).toEqual([undefined, [[1, 0]]]);
      queue.submit();
      await loops.simulation.advance(900);
      useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_OK);
      expect([disk.failure, polled(queue)]).toEqual([undefined, [[2, 0]]]);
      await loops.simulation.advance(10_000);
      expect(disk.failure).toBeUndefined();
    });
  });

  it.each(['needs reset', 'gone'])('%s: in-flight requests end with ENODEV', async (how) => {
    await withScript({}, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.submit();
      if (how === 'gone') device.vanish('unplugged');
      else device.needReset();
      await loops.settle();
      expect(disk.failure).toBe(how === 'gone' ? 'device gone: unplugged' : 'device needs reset');
      expect(polled(queue)).toEqual([[1, RESULT_ENODEV]]);
    });
  });

  it('grows and shrinks, and makes no sense: the capacity follows what does', async () => {
    await withScript({}, async ({ disk, device, loops }) => {
      const seen: number[] = [];
      disk.onCapacityChange((capacity) => seen.push(capacity));
      for (const capacity of [4096n, 2n ** 60n, 8n]) {
        device.changeConfig(configBytes({ capacity }));
        await loops.settle();
      }
      expect([seen, disk.capacity]).toEqual([[2 << 20, 4096], 4096]);
    });
  });

  it.each([
    ['blk_size', { blk_size: 300 }, /blk_size 300/],
    ['capacity', { capacity: 2n ** 60n }, /capacity/],
    ['size_max', { size_max: 100 }, /size_max 100/],
    ['a block larger than a segment', { blk_size: 65_536, size_max: 4096 }, /65536/],
  ])(
    'a configuration that makes no sense (%s) is EPROTO, and nothing stays lent',
    async (_what, config, message) => {
      await expect(withScript({ config }, () => undefined)).rejects.toThrow(message);
    },
  );

  it('is no disk: EPROTO', async () => {
    const device = new ScriptedTransport({
      deviceType: VIRTIO_ID_NET,
      queueCount: 1,
      features: 0n,
      config: configBytes({}),
    });
    using loops = new SimulatedLoops(1);
    await expect(openBlkio(device.link, { aio: loops.driverAio })).rejects.toMatchObject({ code: 'EPROTO' });
  });
});
