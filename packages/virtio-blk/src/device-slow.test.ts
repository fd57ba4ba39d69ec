import { describe, expect, it } from 'vitest';
import { featureBit } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';
import { createBlkDevice } from './device.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { RawRequester } from './testing/request.ts';
import { heldDisk, range, withDevice } from './testing/scenes.ts';

const SECTOR = 512;

describe('backends that take their time', () => {
  it('completes in the order in which the backend does', async () => {
    const backend = heldDisk();
    await withDevice(backend, async (requester, bench) => {
      const tokens = [0n, 1n, 2n].map((sector) => requester.add({ sector, dataSize: SECTOR }));
      requester.kick();
      await bench.until('all begun', () => backend.held.length === 3);
      backend.end(1);
      await bench.settle();
      expect(tokens.map((token) => requester.answer(token)?.status)).toEqual([
        undefined,
        VIRTIO_BLK_S_OK,
        undefined,
      ]);
      backend.endAll();
      await bench.settle();
      expect(tokens.map((token) => requester.answer(token)?.data[1])).toEqual([1, 2, 3]);
    });
  });

  it('what ends in one go is completed in one batch, with one call', async () => {
    const backend = heldDisk();
    await withDevice(backend, async (requester, bench) => {
      for (let count = 0; count < 20; count += 1) requester.add({ dataSize: SECTOR });
      requester.kick();
      await bench.until('all begun', () => backend.held.length === 20);
      const decisions = (): number => {
        const { calls, callsSuppressed } = bench.host.statistics[0]!;
        return calls + callsSuppressed;
      };
      const before = decisions();
      backend.endAll();
      await bench.settle();
      expect(bench.host.statistics[0]).toMatchObject({ requests: 20, kicks: 1, calls: 1 });
      expect(decisions() - before).toBe(1);
    });
  });

  it('a request of several segments ends with the first failure, after all of them ended', async () => {
    const backend = heldDisk();
    await withDevice(backend, async (requester, bench) => {
      const token = requester.add({ dataSize: 3 * SECTOR, writableCuts: [SECTOR, SECTOR] });
      requester.kick();
      await bench.until('all begun', () => backend.held.length === 3);
      backend.end(1, VIRTIO_BLK_S_IOERR);
      backend.end();
      await bench.settle();
      expect(requester.answer(token)).toBeUndefined();
      backend.end();
      await bench.settle();
      expect(requester.answer(token)).toMatchObject({ status: VIRTIO_BLK_S_IOERR, usedSize: 0 });
    });
  });

  it('§5.2.6.2 FLUSH is not acknowledged before the backend has done it', async () => {
    const backend = heldDisk();
    await withDevice(backend, async (requester, bench) => {
      const token = requester.add({ type: VIRTIO_BLK_T_FLUSH });
      requester.kick();
      await bench.settle();
      expect([backend.held, requester.answer(token)]).toEqual([['flush'], undefined]);
      backend.end();
      await bench.settle();
      expect(requester.answer(token)?.status).toBe(VIRTIO_BLK_S_OK);
    });
  });

  it.each([
    ['OUT', { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR) }, 'write 0+512'],
    ['WRITE_ZEROES', { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range(0n, 1) }, 'zero 0+512'],
  ])('§5.2.6.2 without FLUSH negotiated, %s is stable when it completes', async (_what, request, begun) => {
    const backend = heldDisk();
    await withDevice(
      backend,
      async (requester, bench) => {
        const token = requester.add(request);
        requester.kick();
        await bench.settle();
        backend.end();
        await bench.settle();
        expect([backend.begun, requester.answer(token)]).toEqual([[begun, 'flush'], undefined]);
        backend.end();
        await bench.settle();
        expect(requester.answer(token)?.status).toBe(VIRTIO_BLK_S_OK);
      },
      { wanted: featureBit(VIRTIO_BLK_F_WRITE_ZEROES) },
    );
  });

  it('§2.4.2 a reset waits for operations in flight; nothing is written to the ring afterwards', async () => {
    const backend = heldDisk();
    const device = createBlkDevice({ backend });
    const bench = new BlkBench({ device });
    const requester = new RawRequester(await bench.initialize(device.features));
    requester.add({ dataSize: SECTOR });
    requester.add({ type: VIRTIO_BLK_T_FLUSH });
    requester.kick();
    await bench.until('begun', () => backend.held.length === 2);
    let isStopped = false;
    const stopped = requester.stop().then(() => (isStopped = true));
    await bench.settle();
    expect([isStopped, device.inFlightCount, backend.isListening]).toEqual([false, 2, true]);
    backend.endAll();
    await bench.run(stopped);
    expect([device.inFlightCount, backend.isListening]).toEqual([0, false]);
    await bench.closeClean();
  });

  it('a reset submits what was held back for the end of a batch, so that it can end', async () => {
    const backend = heldDisk();
    const device = createBlkDevice({ backend });
    const bench = new BlkBench({ device });
    const requester = new RawRequester(await bench.initialize(0n));
    requester.add({ type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR) });
    requester.kick();
    await bench.until('begun', () => backend.held.length === 1);
    backend.end();
    const stopped = requester.stop();
    await bench.settle();
    backend.endAll();
    await bench.run(stopped);
    expect(device.inFlightCount).toBe(0);
    await bench.closeClean();
  });
});
