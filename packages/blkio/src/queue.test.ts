import { describe, expect, it } from 'vitest';
import { featureBit } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { createCompletions } from './completions.ts';
import {
  BLKIO_BROKEN,
  BLKIO_FULL,
  BLKIO_REQ_FUA,
  BLKIO_REQ_NO_FALLBACK,
  BLKIO_REQ_NO_UNMAP,
  type BlkioCompletions,
  type BlkioQueue,
} from './contract.ts';
import { RESULT_ECANCELED, RESULT_EIO, RESULT_ENODEV, RESULT_ENOTSUP, RESULT_EROFS } from './errors.ts';
import { DISK_FEATURES, takeRequests, useRequest, withScript } from './testing/scripted-rig.ts';
import { createVector } from './vector.ts';

const INDIRECT = featureBit(VIRTIO_RING_F_INDIRECT_DESC);
const BLOCK = 512;

function polled(queue: BlkioQueue, into: BlkioCompletions = createCompletions(16)): [number, number][] {
  queue.poll(into);
  return Array.from({ length: into.count }, (_, at) => [into.tokens[at]!, into.results[at]!]);
}

describe('requests', () => {
  it('limits are the device’s, in bytes', async () => {
    await withScript({}, ({ disk, queue }) => {
      expect(disk.limits).toEqual({
        requestAlignment: 512,
        optimalIoSize: 0,
        transferSizeMax: 16_384,
        segmentCountMax: 2,
        segmentSizeMax: 8192,
        discardSizeMax: 32_768,
        discardAlignment: 4096,
        writeZeroesSizeMax: 32_768,
        mappedRegionCountMax: 0,
      });
      expect([disk.capacity, disk.readOnly, disk.needsFlush, queue.depth]).toEqual([1 << 20, false, true, 5]);
    });
    await withScript({ features: DISK_FEATURES | INDIRECT, queueDepth: 9 }, ({ disk, queue }) => {
      expect([disk.limits.segmentCountMax, disk.limits.transferSizeMax, queue.depth]).toEqual([4, 32_768, 9]);
    });
  });

  it('misuse throws and takes nothing', async () => {
    await withScript({}, ({ disk, queue }) => {
      const region = disk.allocateRegion(4 * BLOCK);
      const gone = disk.allocateRegion(BLOCK);
      gone[Symbol.dispose]();
      const calls: (() => unknown)[] = [
        () => queue.read(1, region, 0, BLOCK, 0),
        () => queue.read(0.5, region, 0, BLOCK, 0),
        () => queue.read(-BLOCK, region, 0, BLOCK, 0),
        () => queue.read(disk.capacity, region, 0, BLOCK, 0),
        () => queue.read(0, region, 0, 0, 0),
        () => queue.read(0, region, 0, 100, 0),
        () => queue.read(0, region, 0, BLOCK + 0.5, 0),
        () => queue.read(0, region, 0, Number.NaN, 0),
        () => queue.read(0, region, 3 * BLOCK, 2 * BLOCK, 0),
        () => queue.read(0, region, -1, BLOCK, 0),
        () => queue.read(0, region, 0.25, BLOCK, 0),
        () => queue.read(0, region, 0, BLOCK, -1),
        () => queue.read(0, region, 0, BLOCK, 0.5),
        () => queue.read(0, region, 0, BLOCK, 2 ** 53),
        () => queue.read(0, region, 0, BLOCK, 0, BLKIO_REQ_FUA),
        () => queue.write(0, region, 0, BLOCK, 0, BLKIO_REQ_NO_UNMAP),
        () => queue.read(0, region, 0, 1 << 20, 0),
        () => queue.readv(0, createVector(), 0),
        () => queue.discard(0, 65_536, 0),
        () => queue.discard(0, BLOCK, 0, BLKIO_REQ_FUA),
        () => queue.writeZeroes(0, 65_536, 0),
        () => queue.writeZeroes(0, BLOCK, 0, 8),
        () => queue.flush(0, 1),
        () => queue.pollUntil(createCompletions(1), 1, 0),
      ];
      for (const call of calls) expect(call).toThrow(RangeError);
      expect(() => queue.read(0, gone, 0, BLOCK, 0)).toThrow(TypeError);
      expect(() => createVector().add(gone, 0, BLOCK)).toThrow(TypeError);
      expect(() => createVector().add(region, 0, 5 * BLOCK)).toThrow(RangeError);
      expect(() => createVector(0)).toThrow(RangeError);
      expect(() => createCompletions(0)).toThrow(RangeError);
      expect(queue.inFlightCount).toBe(0);
    });
  });

  it('a region of another disk is refused', async () => {
    await withScript({}, async ({ disk }) => {
      const foreign = disk.allocateRegion(BLOCK);
      await withScript({}, ({ queue }) => {
        expect(() => queue.read(0, foreign, 0, BLOCK, 0)).toThrow(TypeError);
      });
    });
  });

  it('§5.2.6 a request beyond a segment’s size is cut, and its sector is beyond 2^32 where it must be', async () => {
    const config = { capacity: 2n ** 40n };
    await withScript({ config, features: DISK_FEATURES | INDIRECT }, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(20_480);
      queue.write(2 ** 45, region, 0, 20_480, 7);
      queue.submit();
      const [request] = takeRequests(device);
      expect(request).toMatchObject({ type: VIRTIO_BLK_T_OUT, sector: 2n ** 36n });
      expect(request!.descriptors.map(({ size }) => size)).toEqual([16, 8192, 8192, 4096, 1]);
      useRequest(device, request!, VIRTIO_BLK_S_OK);
      expect(polled(queue)).toEqual([[7, 0]]);
    });
  });

  it('nothing is shown before `submit`, and one doorbell rings for all of it', async () => {
    await withScript({}, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      const before = device.kickCount;
      for (let token = 0; token < 4; token += 1) queue.read(0, region, 0, BLOCK, token);
      expect(device.available()).toBe(0);
      queue.submit();
      queue.submit();
      expect([device.available(), device.kickCount - before]).toEqual([4, 1]);
    });
  });

  it('statuses become negative errnos', async () => {
    await withScript({}, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      for (let token = 0; token < 3; token += 1) queue.read(0, region, 0, BLOCK, token);
      queue.submit();
      const statuses = [VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_OK];
      takeRequests(device).forEach((request, at) => useRequest(device, request, statuses[at]));
      expect(polled(queue)).toEqual([
        [0, RESULT_EIO],
        [1, RESULT_ENOTSUP],
        [2, 0],
      ]);
      expect(queue.statistics).toMatchObject({ requests: 3, completions: 3, failures: 2 });
    });
  });

  it('what the disk does not do completes, and needs no device', async () => {
    await withScript({ features: featureBit(VIRTIO_BLK_F_RO) }, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.write(0, region, 0, BLOCK, 1);
      queue.writeZeroes(0, BLOCK, 2);
      queue.discard(0, BLOCK, 3);
      queue.flush(4);
      queue.submit();
      expect(polled(queue)).toEqual([
        [1, RESULT_EROFS],
        [2, RESULT_EROFS],
        [3, RESULT_EROFS],
        [4, 0],
      ]);
      expect([device.available(), disk.needsFlush]).toEqual([0, false]);
    });
    await withScript({ features: 0n }, ({ queue }) => {
      queue.discard(0, BLOCK, 1);
      queue.writeZeroes(0, BLOCK, 2, BLKIO_REQ_NO_FALLBACK);
      expect(polled(queue)).toEqual([
        [1, RESULT_ENOTSUP],
        [2, RESULT_ENOTSUP],
      ]);
    });
  });
});

describe('flags', () => {
  it.each([0n, INDIRECT])(
    'FUA is a write, then a flush, then one completion (ring features %s)',
    async (ring) => {
      await withScript({ features: DISK_FEATURES | ring }, ({ disk, queue, device }) => {
        const region = disk.allocateRegion(BLOCK);
        let token = 0;
        while (queue.write(0, region, 0, BLOCK, token, BLKIO_REQ_FUA) === 0) token += 1;
        queue.submit();
        const writes = takeRequests(device);
        expect(writes.map(({ type }) => type)).toEqual(writes.map(() => VIRTIO_BLK_T_OUT));
        for (const write of writes) useRequest(device, write, VIRTIO_BLK_S_OK);
        expect(polled(queue)).toEqual([]);
        const flushes = takeRequests(device);
        expect(flushes.map(({ type }) => type)).toEqual(writes.map(() => VIRTIO_BLK_T_FLUSH));
        flushes.forEach((flush, at) =>
          useRequest(device, flush, at === 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK),
        );
        const results = polled(queue);
        expect(results.map(([, result]) => result)).toEqual(
          writes.map((_, at) => (at === 0 ? RESULT_EIO : 0)),
        );
        expect(results.map(([each]) => each).toSorted((a, b) => a - b)).toEqual(writes.map((_, at) => at));
      });
    },
  );

  it('FUA of a write that failed has no flush; on a disk without a cache it is the write', async () => {
    await withScript({}, ({ disk, queue, device }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.write(0, region, 0, BLOCK, 1, BLKIO_REQ_FUA);
      queue.submit();
      useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_IOERR);
      expect([polled(queue), device.available()]).toEqual([[[1, RESULT_EIO]], 0]);
    });
    await withScript(
      { features: DISK_FEATURES & ~featureBit(VIRTIO_BLK_F_FLUSH) },
      ({ disk, queue, device }) => {
        const region = disk.allocateRegion(BLOCK);
        queue.write(0, region, 0, BLOCK, 1, BLKIO_REQ_FUA);
        queue.submit();
        useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_OK);
        expect([polled(queue), device.available()]).toEqual([[[1, 0]], 0]);
      },
    );
  });

  it('write zeroes may unmap unless told not to', async () => {
    await withScript({}, ({ queue, device }) => {
      queue.writeZeroes(4096, 8192, 1);
      queue.writeZeroes(4096, 8192, 2, BLKIO_REQ_NO_UNMAP);
      queue.submit();
      const requests = takeRequests(device);
      expect(requests.map(({ type }) => type)).toEqual([
        VIRTIO_BLK_T_WRITE_ZEROES,
        VIRTIO_BLK_T_WRITE_ZEROES,
      ]);
      const ranges = requests.map(({ descriptors }) => {
        const at = device.at(descriptors[1]!.address) / 4;
        return [...device.memory.u32.subarray(at, at + 4)];
      });
      expect(ranges).toEqual([
        [8, 0, 16, 1],
        [8, 0, 16, 0],
      ]);
    });
  });

  it('a disk without write zeroes is written zeroes, up to the limit that it shows', async () => {
    const features = (DISK_FEATURES & ~featureBit(VIRTIO_BLK_F_WRITE_ZEROES)) | INDIRECT;
    await withScript({ features }, ({ disk, queue, device }) => {
      expect(disk.limits.writeZeroesSizeMax).toBe(32_768);
      queue.writeZeroes(0, 32_768 - BLOCK, 1);
      queue.submit();
      const [request] = takeRequests(device);
      expect(request!.type).toBe(VIRTIO_BLK_T_OUT);
      expect(request!.descriptors.slice(1, -1).map(({ size }) => size)).toEqual([8192, 8192, 8192, 7680]);
      const at = device.at(request!.descriptors[1]!.address);
      expect(device.memory.u8.subarray(at, at + 8192).every((byte) => byte === 0)).toBe(true);
    });
  });
});

describe('faces beside each other', () => {
  it('a token completes at the face that submitted it, whoever looks', async () => {
    await withScript({ features: DISK_FEATURES | INDIRECT }, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      const settled: string[] = [];
      const read = queue.promises.read(0, region, 0, BLOCK).then(() => settled.push('promise'));
      queue.read(0, region, 0, BLOCK, 5);
      queue.submit();
      for (const request of takeRequests(device)) useRequest(device, request, VIRTIO_BLK_S_OK);
      expect(polled(queue)).toEqual([[5, 0]]);
      await read;
      // And from the loop: the batch's token waits for `poll`.
      const again = queue.promises.read(0, region, 0, BLOCK);
      queue.read(0, region, 0, BLOCK, 6);
      queue.submit();
      for (const request of takeRequests(device)) useRequest(device, request, VIRTIO_BLK_S_OK);
      device.call();
      await loops.run(again);
      expect([queue.inFlightCount, polled(queue), settled]).toEqual([1, [[6, 0]], ['promise']]);
    });
  });

  it('promises wait for room in their order, and vectors as they were', async () => {
    await withScript(
      { features: DISK_FEATURES | INDIRECT, queueDepth: 2 },
      async ({ disk, queue, device, loops }) => {
        const region = disk.allocateRegion(8 * BLOCK);
        const vector = createVector();
        const order: number[] = [];
        const all = Array.from({ length: 6 }, (_, at) => {
          vector.clear();
          vector.add(region, at * BLOCK, BLOCK);
          return queue.promises.readv(at * BLOCK, vector).then(() => order.push(at));
        });
        const sectors: bigint[] = [];
        const offsets: bigint[] = [];
        for (let round = 0; round < 3; round += 1) {
          await loops.settle();
          const requests = takeRequests(device);
          expect(requests).toHaveLength(2);
          for (const request of requests) {
            sectors.push(request.sector);
            offsets.push(request.descriptors[1]!.address);
            useRequest(device, request, VIRTIO_BLK_S_OK);
          }
          device.call();
        }
        await loops.run(Promise.all(all));
        expect([order, sectors]).toEqual([
          [0, 1, 2, 3, 4, 5],
          [0n, 1n, 2n, 3n, 4n, 5n],
        ]);
        expect(offsets.map((each) => Number(each - offsets[0]!))).toEqual(
          [0, 1, 2, 3, 4, 5].map((at) => at * BLOCK),
        );
      },
    );
  });

  it('iterating and polling exclude each other, and one at a time iterates', async () => {
    await withScript({}, async ({ queue }) => {
      const stream = queue.completions();
      expect(() => queue.completions()).toThrow(TypeError);
      expect(() => queue.poll(createCompletions(1))).toThrow(TypeError);
      const first = stream.next();
      expect(() => stream.next()).toThrow(TypeError);
      await stream.return!();
      expect(await first).toEqual({ done: true, value: undefined });
      expect(queue.poll(createCompletions(1))).toBe(0);
    });
  });

  it('calls are off while a caller polls, on while somebody waits, and off again', async () => {
    await withScript({ features: DISK_FEATURES | INDIRECT }, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      const flags = (): number => device.rings[0]!.ring.availFlags;
      expect(flags()).toBe(1);
      const read = queue.promises.read(0, region, 0, BLOCK);
      await loops.settle();
      expect(flags()).toBe(0);
      useRequest(device, takeRequests(device)[0]!, VIRTIO_BLK_S_OK);
      device.call();
      await loops.run(read);
      polled(queue);
      expect(flags()).toBe(1);
    });
  });
});

describe('the end', () => {
  it('close: what was shown ends with ENODEV, what was not with ECANCELED, and nothing is accepted', async () => {
    await withScript({}, async ({ disk, queue, device, loops }) => {
      const region = disk.allocateRegion(BLOCK);
      queue.read(0, region, 0, BLOCK, 1);
      queue.read(0, region, 0, BLOCK, 2);
      queue.submit();
      useRequest(device, takeRequests(device)[1]!, VIRTIO_BLK_S_OK);
      const lost = queue.promises.read(0, region, 0, BLOCK);
      queue.read(0, region, 0, BLOCK, 3);
      const closing = disk.close();
      await expect(lost).rejects.toMatchObject({ code: 'ECANCELED' });
      await loops.run(closing);
      expect(polled(queue).toSorted(([a], [b]) => a - b)).toEqual([
        [1, RESULT_ENODEV],
        [2, 0],
        [3, RESULT_ECANCELED],
      ]);
      expect(() => queue.read(0, region, 0, BLOCK, 4)).toThrow(TypeError);
      expect([queue.flush(4), BLKIO_FULL]).toEqual([BLKIO_BROKEN, -1]);
      await expect(queue.promises.flush()).rejects.toMatchObject({ code: 'ENODEV' });
      expect(() => disk.allocateRegion(1)).toThrow(/ENODEV/);
    });
  });
});
