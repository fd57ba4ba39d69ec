/** Requests through the rings, doorbells and their suppression: VIRTIO §2.6, §2.7. */
import { describe, expect, it } from 'vitest';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { createBufferList } from '@virtlab/vring';
import { ringVariants, withBench, type Bench } from './bench.ts';
import { EchoClient, POISON, pattern } from './echo-client.ts';
import { RING_FEATURES } from '../features.ts';
import { DEFERRED_QUEUE, ECHO_QUEUE, PROBE_FEATURES, RECEIVE_QUEUE } from './probe-device.ts';
import { BASE_FEATURES, STATUS_DRIVER_OK, RawQueue, negotiateRaw } from './raw-driver.ts';
import type { TransportSetup } from './transport-under-test.ts';

/** Thresholds, and one off on either side. */
const SIZES: readonly number[] = [0, 1, 511, 512, 513, 4095, 4096, 4097, 65536 + 3];
const PIECE_COUNTS: readonly number[] = [1, 2, 3, 17, 31];

const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const IN_ORDER = featureBit(VIRTIO_F_IN_ORDER);

/** Split rings first; a transport that does not offer a format runs these on a split ring once more. */
const VARIANTS: readonly [string, bigint][] = [
  ...ringVariants({
    'indirect descriptors': featureBit(VIRTIO_RING_F_INDIRECT_DESC),
    'event index': featureBit(VIRTIO_RING_F_EVENT_IDX),
  }),
  ['both, in order', PROBE_FEATURES | RING_FEATURES | IN_ORDER],
  ['packed format', PROBE_FEATURES | PACKED],
  ['packed format and both', PROBE_FEATURES | RING_FEATURES | PACKED],
  ['packed format and both, in order', PROBE_FEATURES | RING_FEATURES | PACKED | IN_ORDER],
];

export function describeDataPlane(setup: TransportSetup): void {
  describe('requests', () => {
    it.each(VARIANTS)('§2.7 bytes arrive in both directions, ring with %s', async (_, features) => {
      await withBench(setup, async (bench) => {
        const session = await bench.start(features);
        const client = new EchoClient(session, ECHO_QUEUE);
        for (const size of SIZES) {
          for (const pieceCount of PIECE_COUNTS) {
            client.send(size, pieceCount);
            await bench.until(
              `${size} bytes in ${pieceCount} pieces are back`,
              () => client.pendingCount === 0,
            );
          }
        }
        expect(client.faults).toEqual([]);
        expect(client.doneCount).toBe(SIZES.length * PIECE_COUNTS.length);
        await bench.run(session.stop());
      });
    });

    it.each(VARIANTS)('§2.7 a full ring and many laps of it, ring with %s', async (_, features) => {
      await withBench(setup, async (bench) => {
        const session = await bench.start(features);
        const client = new EchoClient(session, ECHO_QUEUE);
        for (let lap = 0; lap < 4; lap += 1) {
          while (client.add(lap + 1)) client.queue.publish();
          expect(client.queue.freeCount).toBeLessThan(2);
          client.kick();
          await bench.until(`lap ${lap} is back`, () => client.pendingCount === 0);
        }
        expect(client.faults).toEqual([]);
        expect(client.doneCount).toBeGreaterThanOrEqual(4 * (client.queue.size / 2));
        await bench.run(session.stop());
      });
    });

    it('§2.7 queues do not disturb each other, and a request may overtake another', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const echo = new EchoClient(session, ECHO_QUEUE);
        const deferred = new EchoClient(session, DEFERRED_QUEUE);
        for (let round = 0; round < 8; round += 1) {
          for (let request = 0; request < 4; request += 1) deferred.send(100 + request);
          for (let request = 0; request < 5; request += 1) echo.send(1000 + request, 3);
          await bench.until('the echo queue is empty', () => echo.pendingCount === 0);
          expect(deferred.pendingCount).toBe(4);
          await bench.until('the device holds the others', () => bench.device.deferredCount === 4);
          bench.device.completeDeferred();
          await bench.until('the deferred queue is empty', () => deferred.pendingCount === 0);
        }
        expect([...echo.faults, ...deferred.faults]).toEqual([]);
        await bench.run(session.stop());
      });
    });

    it('§2.6 buffers that the device leaves in the ring wait for it', async () => {
      await withBench(setup, async (bench) => {
        const { sent, received } = await receiveAll(bench, bench.device.queueSizesMax[RECEIVE_QUEUE]! * 3);
        expect(received).toEqual(sent);
      });
    });

    it('§2.7 the 16-bit indices of a queue wrap without a trace', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const client = new EchoClient(session, ECHO_QUEUE);
        const count = setup.enduranceCount ?? 3 * client.queue.size;
        while (client.doneCount < count && client.faults.length === 0) {
          while (client.doneCount + client.pendingCount < count && client.add(1)) continue;
          client.kick();
          await bench.until('the batch is back', () => client.pendingCount === 0);
        }
        expect(client.faults).toEqual([]);
        expect(client.doneCount).toBe(count);
        await bench.run(session.stop());
      });
    }, 60_000);
  });
  describeDoorbells(setup);
}

function describeDoorbells(setup: TransportSetup): void {
  describe('doorbells', () => {
    it('§2.1.2 the device MUST NOT consume buffers before DRIVER_OK, whatever is kicked', async () => {
      await withBench(setup, async (bench) => {
        await negotiateRaw(bench);
        const raw = new RawQueue(bench.link.dma, 8);
        await bench.run(bench.transport.enableQueue(ECHO_QUEUE, raw.addresses));
        raw.descriptor(0, { addr: raw.address, len: 16, flags: 0, next: 0 });
        raw.availableEntry(0, 0);
        raw.availableIndex(1);
        bench.transport.kick(ECHO_QUEUE);
        bench.transport.kick(RECEIVE_QUEUE);
        for (let round = 0; round < 10; round += 1) await bench.settle();
        expect(bench.device.takenCount).toBe(0);
        expect(bench.host.statistics[ECHO_QUEUE]!.kicks).toBe(0);
        await bench.writeStatuses(STATUS_DRIVER_OK);
        bench.transport.kick(ECHO_QUEUE);
        bench.transport.kick(RECEIVE_QUEUE);
        await bench.until('the buffer is taken', () => bench.device.takenCount === 1);
        await bench.writeStatuses(0);
        raw.free();
      });
    });

    it('§2.7.7.1 a driver that wants no call gets none, and finds what it missed', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start(BASE_FEATURES);
        const client = new EchoClient(session, ECHO_QUEUE);
        client.send(10);
        await bench.until('the first is back', () => client.pendingCount === 0);
        session.onCall(ECHO_QUEUE, undefined);
        client.queue.disableCalls();
        const before = bench.host.statistics[ECHO_QUEUE]!;
        const { calls, requests } = { ...before };
        for (let request = 0; request < 5; request += 1) client.send(20);
        await bench.until('five requests are done', () => before.requests === requests + 5);
        await bench.settle();
        expect(before.calls).toBe(calls);
        expect(client.queue.enableCalls()).toBe(true);
        client.collect();
        expect(client.pendingCount).toBe(0);
        await bench.run(session.stop());
      });
    });

    it('§2.7.10 a kick for nothing does no harm', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const client = new EchoClient(session, ECHO_QUEUE);
        for (let round = 0; round < 20; round += 1) {
          bench.transport.kick(round % bench.transport.queueCount);
          if (round % 5 === 0) client.send(round);
          await bench.settle();
        }
        await bench.until('all are back', () => client.pendingCount === 0);
        expect(client.faults).toEqual([]);
        expect(client.doneCount).toBe(4);
        await bench.run(session.stop());
      });
    });
  });
}

/** Lends the receive queue more buffers than it holds, in turn with the device filling them one by one. */
async function receiveAll(
  bench: Bench,
  messageCount: number,
): Promise<{ sent: string[]; received: string[] }> {
  const session = await bench.start();
  const { dma } = bench.link;
  const ring = session.queues[RECEIVE_QUEUE]!;
  const bufferSize = 128;
  const buffers = createBufferList();
  const base = dma.allocate(bufferSize * ring.size);
  const received: string[] = [];
  const post = (slot: number): void => {
    const offset = base + slot * bufferSize;
    dma.memory.u8.fill(POISON, offset, offset + bufferSize);
    buffers.clear();
    buffers.addWritable(offset, bufferSize);
    if (ring.add(buffers, slot) !== 0) throw new Error('The receive queue is full too early');
  };
  session.onCall(RECEIVE_QUEUE, () => {
    for (let slot = ring.popUsed(); slot >= 0; slot = ring.popUsed()) {
      const at = base + slot * bufferSize;
      received.push(dma.memory.u8.slice(at, at + ring.usedSize).join());
      post(slot);
    }
    session.kick(RECEIVE_QUEUE);
  });
  for (let slot = 0; slot < ring.size; slot += 1) post(slot);
  session.kick(RECEIVE_QUEUE);
  await bench.settle();
  const sent: string[] = [];
  while (sent.length < messageCount) {
    const message = pattern(1 + (sent.length % bufferSize), sent.length);
    if (bench.device.deliver(message)) sent.push(message.join());
    else await bench.until('buffers come back', () => received.length === sent.length);
  }
  await bench.until('all messages are in', () => received.length === sent.length);
  await bench.run(session.stop());
  dma.free(base, bufferSize * ring.size);
  return { sent, received };
}
