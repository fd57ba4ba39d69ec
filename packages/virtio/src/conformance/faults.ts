/** Broken rules, broken devices, ends and new beginnings: VIRTIO §2.1.2, §2.4, §2.7; every case leaves the others alive. */
import { describe, expect, it } from 'vitest';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import {
  VRING_DESC_ALIGN_SIZE,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
} from '@virtlab/abi/virtio-ring';
import { TransportError } from '../contract.ts';
import { withBench, type Bench } from './bench.ts';
import { EchoClient, POISON } from './echo-client.ts';
import { DEFERRED_QUEUE, ECHO_QUEUE } from './probe-device.ts';
import { BASE_FEATURES, RawQueue, STATUS_DRIVER_OK, negotiateRaw } from './raw-driver.ts';
import type { TransportSetup } from './transport-under-test.ts';

/** Entries of the rings that `MALFORMED` writes. */
export const MALFORMED_SIZE = 8;

/** What a raw driver writes before its kick; index 1 of the available ring is then published unless it says otherwise. */
export const MALFORMED: readonly (readonly [string, (raw: RawQueue) => void])[] = [
  ['an available index more than a queue ahead', (raw) => raw.availableIndex(MALFORMED_SIZE + 1)],
  ['a head beyond the descriptor table', (raw) => publish(raw, MALFORMED_SIZE)],
  [
    'a next beyond the descriptor table',
    (raw) => chain(raw, { flags: VRING_DESC_F_NEXT, next: MALFORMED_SIZE }),
  ],
  ['a descriptor that follows itself', (raw) => chain(raw, { flags: VRING_DESC_F_NEXT, next: 0 })],
  ['memory that was not lent', (raw) => chain(raw, { addr: 0x7fff_ffff_ffff_f000n })],
  ['a buffer that wraps the address space', (raw) => chain(raw, { addr: 0xffff_ffff_ffff_fff0n, len: 64 })],
  ['an indirect table that was not negotiated', (raw) => chain(raw, { flags: VRING_DESC_F_INDIRECT })],
  [
    'a readable buffer after a writable one',
    (raw) => {
      raw.descriptor(1, { addr: raw.address, len: 4, flags: 0, next: 0 });
      chain(raw, { flags: VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, next: 1 });
    },
  ],
];

function publish(raw: RawQueue, head: number): void {
  raw.availableEntry(0, head);
  raw.availableIndex(1);
}

function chain(raw: RawQueue, fields: { addr?: bigint; len?: number; flags?: number; next?: number }): void {
  raw.descriptor(0, { addr: raw.address, len: 16, flags: raw.bufferFlags, next: 0, ...fields });
  publish(raw, 0);
}

export function describeViolations(setup: TransportSetup): void {
  describe('a driver that breaks the rules', () => {
    it.each(MALFORMED)('§2.1.2 %s: DEVICE_NEEDS_RESET, the driver is told, others live', async (_, write) => {
      await withBench(setup, async (bystander) => {
        await withBench(setup, async (bench) => {
          const session = await bystander.start();
          const client = new EchoClient(session, ECHO_QUEUE);
          client.send(100);
          await breakRing(bench, write);
          client.send(200);
          await bystander.until('the bystander is served', () => client.doneCount === 2);
          expect(client.faults).toEqual([]);
          await bystander.run(session.stop());
          await exerciseOnce(bench);
        });
      });
    });

    const addresses: readonly (readonly [
      string,
      (good: RawQueue['addresses']) => Partial<RawQueue['addresses']>,
    ])[] = [
      ['misaligned', (good) => ({ descriptorArea: good.descriptorArea + BigInt(VRING_DESC_ALIGN_SIZE / 2) })],
      ['outside of what was lent', () => ({ driverArea: 0x7fff_ffff_ffff_f000n })],
      ['past 64 bits', () => ({ deviceArea: 0xffff_ffff_ffff_fff8n })],
    ];
    it.for(addresses)(
      '§2.7 ring addresses %s are refused and the device needs reset',
      async ([, spoil], test) => {
        await withBench(setup, async (bench) => {
          if (bench.transport.capabilities.checksRings === true) test.skip('capabilities: checksRings');
          await negotiateRaw(bench);
          const raw = new RawQueue(bench.link.dma, MALFORMED_SIZE);
          const spoilt = { ...raw.addresses, ...spoil(raw.addresses) };
          const enabling = bench.transport.enableQueue(ECHO_QUEUE, spoilt);
          await bench.run(enabling.catch(() => undefined));
          await bench.writeStatuses(STATUS_DRIVER_OK);
          expect((await bench.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
          expect(bench.host.violation?.section).toMatch(/^2\.7/);
          expect(bench.device.activationCount).toBe(0);
          await bench.writeStatuses(0);
          raw.free();
          await exerciseOnce(bench);
        });
      },
    );
  });
}

export function describeBrokenDevices(setup: TransportSetup): void {
  describe('a device that gives up', () => {
    it('§2.1.2 NEEDS_RESET reaches the driver, which fails what is in flight', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const client = new EchoClient(session, DEFERRED_QUEUE);
        for (let request = 0; request < 3; request += 1) client.send(64);
        let reason: string | undefined;
        session.onBroken((why) => {
          reason = why;
        });
        await bench.until('the device holds the requests', () => bench.device.deferredCount === 3);
        bench.device.fail('The test says so');
        await bench.until('the driver is told', () => reason !== undefined);
        expect(session.broken).toBe(reason);
        expect(session.queues.every((queue) => queue.violation !== undefined)).toBe(true);
        const abandoned: number[] = [];
        await bench.run(session.stop((_, token) => abandoned.push(token)));
        expect(abandoned.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
        client.abandon();
        await exerciseOnce(bench);
      });
    });

    it('a device that throws needs reset and does not take the loop down', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const client = new EchoClient(session, ECHO_QUEUE);
        bench.device.nextError = new Error('A bug of the probe device, on purpose');
        client.send(64);
        await bench.until('the driver is told', () => session.broken !== undefined);
        expect(bench.host.violation).toBeUndefined();
        await bench.run(session.stop());
        client.abandon();
        await exerciseOnce(bench);
      });
    });
  });
}

export function describeReset(setup: TransportSetup): void {
  describe('reset and removal', () => {
    it('§2.4 a device works again after each of three resets', async () => {
      await withBench(setup, async (bench) => {
        for (let round = 1; round <= 3; round += 1) {
          await exerciseOnce(bench);
          expect(bench.device.activationCount).toBe(round);
          expect(bench.device.resetCount).toBe(round);
        }
      });
    });

    it('§2.4.1 after a reset during I/O nothing is written any more (case 42)', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const client = new EchoClient(session, DEFERRED_QUEUE);
        for (let request = 0; request < 4; request += 1) client.send(512);
        await bench.until('the device holds the requests', () => bench.device.deferredCount === 4);
        bench.device.isResetHeld = true;
        const stopping = session.stop();
        bench.device.completeDeferred();
        await bench.settle();
        bench.device.finishReset();
        await bench.run(stopping);
        client.abandon();
        const { dma } = bench.link;
        const size = 64 * 1024;
        const offset = dma.allocate(size);
        dma.memory.u8.fill(POISON, offset, offset + size);
        bench.device.completeDeferred();
        await bench.settle();
        expect(dma.memory.u8.subarray(offset, offset + size).every((byte) => byte === POISON)).toBe(true);
        dma.free(offset, size);
        expect(client.doneCount).toBe(0);
        await exerciseOnce(bench);
      });
    });

    it('a device that goes away breaks the session and rejects what is asked of it', async (test) => {
      await withBench(setup, async (bench) => {
        const { removeDevice } = bench;
        if (removeDevice === undefined) test.skip('the transport cannot lose its device');
        const session = await bench.start();
        const client = new EchoClient(session, DEFERRED_QUEUE);
        for (let request = 0; request < 3; request += 1) client.send(64);
        await bench.until('the device holds the requests', () => bench.device.deferredCount === 3);
        let goneCount = 0;
        session.onBroken(() => {
          goneCount += 1;
        });
        await bench.run(removeDevice!());
        await bench.until('the driver is told', () => goneCount === 1);
        session.kick(DEFERRED_QUEUE);
        await expect(bench.run(session.readConfig(0, 4))).rejects.toMatchObject({ code: 'ENODEV' });
        await expect(bench.run(bench.transport.readStatus())).rejects.toBeInstanceOf(TransportError);
        const abandoned: number[] = [];
        await bench.run(session.stop((_, token) => abandoned.push(token)));
        expect(abandoned.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
        client.abandon();
        await bench.settle();
        expect(goneCount).toBe(1);
      });
    });

    it('an operation that waits when the device goes away rejects', async (test) => {
      await withBench(setup, async (bench) => {
        const { removeDevice } = bench;
        if (removeDevice === undefined) test.skip('the transport cannot lose its device');
        const session = await bench.start();
        bench.device.isResetHeld = true;
        const stopping = session.stop();
        const waiting = bench.transport.writeStatus(0).then(
          () => 'done',
          (error: unknown) => error,
        );
        const removing = removeDevice!();
        await bench.settle();
        bench.device.finishReset();
        await bench.run(removing);
        expect(await bench.run(waiting)).toBeInstanceOf(TransportError);
        await bench.run(stopping);
      });
    });
  });
}

/** Brings the device up, has some bytes echoed, and stops it. */
async function exerciseOnce(bench: Bench): Promise<void> {
  const session = await bench.start();
  const client = new EchoClient(session, ECHO_QUEUE);
  for (const size of [1, 4097]) client.send(size, 2);
  await bench.until('the echo is back', () => client.pendingCount === 0);
  expect(client.faults).toEqual([]);
  await bench.run(session.stop());
}

async function breakRing(bench: Bench, write: (raw: RawQueue) => void): Promise<void> {
  await negotiateRaw(bench, BASE_FEATURES);
  const raw = new RawQueue(bench.link.dma, MALFORMED_SIZE);
  await bench.run(bench.transport.enableQueue(ECHO_QUEUE, raw.addresses));
  let toldCount = 0;
  bench.transport.onConfigChange(() => {
    toldCount += 1;
  });
  await bench.writeStatuses(STATUS_DRIVER_OK);
  write(raw);
  bench.transport.kick(ECHO_QUEUE);
  await bench.until('the driver is told of the violation', () => toldCount > 0);
  const status = await bench.readStatus();
  expect(status & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
  expect(status & VIRTIO_CONFIG_S_DRIVER_OK).not.toBe(0);
  expect(bench.host.violation?.message).toBeTruthy();
  bench.transport.onConfigChange(undefined);
  await bench.writeStatuses(0);
  expect(bench.host.violation).toBeUndefined();
  raw.free();
}
