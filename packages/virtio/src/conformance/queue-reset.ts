/** One queue reset alone, the others going on: VIRTIO §2.6.1. */
import { describe, expect, it, type TestContext } from 'vitest';
import { VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_RING_RESET, featureBit } from '@virtlab/abi/virtio';
import type { FeatureBits } from '@virtlab/abi/brands';
import { withBench, type Bench } from './bench.ts';
import { EchoClient } from './echo-client.ts';
import { DEFERRED_QUEUE, ECHO_QUEUE } from './probe-device.ts';
import { STATUS_DRIVER_OK, negotiateRaw } from './raw-driver.ts';
import type { TransportSetup } from './transport-under-test.ts';

const RING_RESET: FeatureBits = featureBit(VIRTIO_F_RING_RESET);

export function describeQueueReset(setup: TransportSetup): void {
  /** With transports that can. */
  const withReset = async (test: TestContext, body: (bench: Bench) => Promise<void>): Promise<void> => {
    await withBench(setup, async (bench) => {
      if (!bench.transport.capabilities.queueReset) test.skip('capabilities: no queueReset');
      await body(bench);
    });
  };

  describe('queue reset', () => {
    it('§6 VIRTIO_F_RING_RESET is offered by transports that can, and only by them', async () => {
      await withBench(setup, async (bench) => {
        const offered = await bench.run(bench.transport.readDeviceFeatures());
        expect((offered & RING_RESET) !== 0n).toBe(bench.transport.capabilities.queueReset);
      });
    });

    it('§2.6.1 without the feature nothing is reset, and the driver is told so', async (test) => {
      await withBench(setup, async (bench) => {
        if (bench.transport.capabilities.queueReset) test.skip('capabilities: queueReset');
        const session = await bench.start();
        const client = new EchoClient(session, ECHO_QUEUE);
        await expect(bench.run(session.resetQueue(ECHO_QUEUE))).rejects.toMatchObject({ code: 'ENOTSUP' });
        await expect(bench.run(bench.transport.resetQueue(ECHO_QUEUE))).rejects.toMatchObject({
          code: 'ENOTSUP',
        });
        await echoSome(bench, client);
        await bench.run(session.stop());
      });
    });

    it('§2.6.1 buffers in flight come back to the driver, the queue starts anew, others go on', async (test) => {
      await withReset(test, async (bench) => {
        const session = await bench.start();
        const echo = new EchoClient(session, ECHO_QUEUE);
        for (const size of [8, 4, 8]) {
          const deferred = new EchoClient(session, DEFERRED_QUEUE);
          for (let request = 0; request < 3; request += 1) deferred.send(64);
          await bench.until('the device holds them', () => bench.device.deferredCount === 3);
          const abandoned: number[] = [];
          const onAbandoned = (token: number): void => void abandoned.push(token);
          const fresh = await bench.run(session.resetQueue(DEFERRED_QUEUE, { size, onAbandoned }));
          expect(abandoned.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
          expect([fresh.size, fresh.inFlightCount, fresh.freeCount]).toEqual([size, 0, size]);
          expect(session.queues[DEFERRED_QUEUE]).toBe(fresh);
          deferred.abandon();
          await echoSome(bench, echo);
          await deferSome(bench, deferred);
        }
        expect(session.broken).toBeUndefined();
        await bench.run(session.stop());
      });
    });

    it('§2.6.1.1 the reset is complete only when the device has let go of the queue (case 43)', async (test) => {
      await withReset(test, async (bench) => {
        const session = await bench.start();
        const echo = new EchoClient(session, ECHO_QUEUE);
        const deferred = new EchoClient(session, DEFERRED_QUEUE);
        deferred.send(64);
        await bench.until('the device holds it', () => bench.device.deferredCount === 1);
        bench.device.isResetHeld = true;
        const before = session.queues[DEFERRED_QUEUE]!;
        const progress = { isDone: false };
        const reset = session.resetQueue(DEFERRED_QUEUE).then(() => (progress.isDone = true));
        for (let round = 0; round < 5; round += 1) await echoSome(bench, echo);
        expect([progress.isDone, session.queues[DEFERRED_QUEUE] === before]).toEqual([false, true]);
        // What the device still does with the queue is nobody's business any more.
        bench.device.completeDeferred();
        await bench.settle();
        expect(before.hasUsed()).toBe(false);
        bench.device.finishReset();
        await bench.run(reset);
        deferred.abandon();
        await deferSome(bench, deferred);
        await bench.run(session.stop());
      });
    });

    it('§2.6.1 a queue can be reset in the middle of traffic, again and again', async (test) => {
      await withReset(test, async (bench) => {
        const session = await bench.start();
        const client = new EchoClient(session, ECHO_QUEUE);
        for (let round = 0; round < 12; round += 1) {
          for (let request = 0; request <= round; request += 1) client.send(100 + round);
          for (let step = 0; step < round % 4; step += 1) await Promise.resolve();
          await bench.run(session.resetQueue(ECHO_QUEUE));
          client.abandon();
          await echoSome(bench, client);
        }
        expect(client.faults).toEqual([]);
        await bench.run(session.stop());
      });
    });

    it('§2.4 a reset of the device ends that of a queue', async (test) => {
      await withReset(test, async (bench) => {
        const session = await bench.start();
        const deferred = new EchoClient(session, DEFERRED_QUEUE);
        deferred.send(64);
        await bench.until('the device holds it', () => bench.device.deferredCount === 1);
        bench.device.isResetHeld = true;
        const reset = session.resetQueue(DEFERRED_QUEUE).catch((error: unknown) => error);
        for (let round = 0; round < 3; round += 1) await bench.settle();
        const stopping = session.stop();
        for (let round = 0; round < 3; round += 1) await bench.settle();
        bench.device.finishReset();
        await bench.run(stopping);
        await bench.run(reset);
        deferred.abandon();
        expect(bench.host.isQueueEnabled(DEFERRED_QUEUE)).toBe(false);
      });
    });

    it('§2.6.1 a device that goes away during the reset breaks the session', async (test) => {
      await withReset(test, async (bench) => {
        const { removeDevice } = bench;
        if (removeDevice === undefined) test.skip('the device cannot be removed');
        const session = await bench.start();
        const deferred = new EchoClient(session, DEFERRED_QUEUE);
        deferred.send(64);
        await bench.until('the device holds it', () => bench.device.deferredCount === 1);
        bench.device.isResetHeld = true;
        const reset = session.resetQueue(DEFERRED_QUEUE).catch((error: unknown) => error);
        await bench.settle();
        const removed = removeDevice!();
        await bench.settle();
        bench.device.finishReset();
        await bench.run(removed);
        expect(await bench.run(reset)).toMatchObject({ name: 'TransportError' });
        expect(session.broken).toBeDefined();
        await bench.run(session.stop());
        deferred.abandon();
      });
    });

    it('§2.6.1 a driver that resets a queue without the feature is refused', async (test) => {
      await withReset(test, async (bench) => {
        await negotiateRaw(bench);
        await bench.writeStatuses(STATUS_DRIVER_OK);
        await bench.run(bench.transport.resetQueue(ECHO_QUEUE).catch(() => undefined));
        await bench.until('the device needs reset', () => {
          return (bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
        });
        expect(bench.host.violation?.section).toBe('2.6.1');
        await bench.writeStatuses(0);
      });
    });
  });
}

async function echoSome(bench: Bench, client: EchoClient): Promise<void> {
  const before = client.doneCount;
  for (let request = 0; request < 3; request += 1) client.send(1000 + request, 2);
  await bench.until('the answers are back', () => client.pendingCount === 0);
  expect([client.faults, client.doneCount - before]).toEqual([[], 3]);
}

async function deferSome(bench: Bench, client: EchoClient): Promise<void> {
  const before = client.doneCount;
  client.send(700);
  await bench.until('the device holds it', () => bench.device.deferredCount === 1);
  bench.device.completeDeferred();
  await bench.until('it is back', () => client.pendingCount === 0);
  expect([client.faults, client.doneCount - before]).toEqual([[], 1]);
}
