import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VIRTIO_CONFIG_S_FAILED, featureBit } from '@virtlab/abi/virtio';
import {
  VRING_USED,
  VRING_USED_ALIGN_SIZE,
  VRING_USED_ELEM,
  VRING_USED_RING_OFFSET,
} from '@virtlab/abi/virtio-ring';
import { Bench } from './conformance/bench.ts';
import { EchoClient } from './conformance/echo-client.ts';
import { createMemoryBench, identityMemory, type LentMemory } from './conformance/memory-bench.ts';
import { DEFERRED_QUEUE, ECHO_QUEUE, ProbeDevice } from './conformance/probe-device.ts';
import { STATUS_DRIVER_OK } from './conformance/raw-driver.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';
import type { DriverLink, DriverTransport } from './contract.ts';
import { initializeDevice } from './initialize-device.ts';

/** A transport in which `change` replaces some operations. */
function tamper(link: DriverLink, change: Partial<DriverTransport>): DriverLink {
  const transport = new Proxy(link.transport, {
    get: (target, key) => {
      const own: unknown = Reflect.get(change, key) ?? Reflect.get(target, key);
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
  return { ...link, transport };
}

const never = (): Promise<never> => new Promise<never>(() => {});

describe('driver', () => {
  let lent: LentMemory;
  let bench: Bench;

  beforeEach(() => {
    lent = identityMemory();
    const device = new ProbeDevice();
    bench = new Bench(device, createMemoryBench({ device, loops: new SimulatedLoops(1), lent }));
  });

  describe('initializeDevice', () => {
    afterEach(async () => {
      const leaks = await bench.close();
      if (leaks.length > 0) throw new Error(`Still held: ${leaks.join(', ')}`);
    });

    const silent: readonly (keyof DriverTransport)[] = [
      'readDeviceFeatures',
      'writeDriverFeatures',
      'readStatus',
      'readQueueSizeMax',
    ];
    it.each(silent)(
      'gives up with ETIMEDOUT on a transport that never answers %s, and holds nothing',
      async (key) => {
        const link = tamper(bench.link, { [key]: never });
        const starting = initializeDevice(link, { aio: bench.driverAio, wanted: 0n, timeoutMs: 50 });
        await expect(bench.run(starting)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
        expect(bench.host.status & VIRTIO_CONFIG_S_FAILED).toBe(VIRTIO_CONFIG_S_FAILED);
      },
    );

    it('§2.4 rejects with EPROTO when the status does not read 0 after a reset', async () => {
      const link = tamper(bench.link, { readStatus: async () => 1 });
      const starting = initializeDevice(link, { aio: bench.driverAio, wanted: 0n });
      await expect(bench.run(starting)).rejects.toMatchObject({ code: 'EPROTO' });
    });

    it('rejects with ENOTSUP, naming it, when a required feature is not offered', async () => {
      const starting = initializeDevice(bench.link, {
        aio: bench.driverAio,
        wanted: 0n,
        required: featureBit(5),
      });
      await expect(bench.run(starting)).rejects.toThrow(/^ENOTSUP: .* bit 5$/);
      expect(bench.host.status & VIRTIO_CONFIG_S_FAILED).toBe(VIRTIO_CONFIG_S_FAILED);
    });

    it('§3.1.1 takes the steps in order, and each queue before DRIVER_OK', async () => {
      const steps: string[] = [];
      const { transport } = bench.link;
      const link = tamper(bench.link, {
        writeStatus: async (status) => {
          steps.push(`status ${status}`);
          await transport.writeStatus(status);
        },
        writeDriverFeatures: async (features) => {
          steps.push('features');
          await transport.writeDriverFeatures(features);
        },
        enableQueue: async (queue, addresses) => {
          steps.push(`queue ${queue} of ${addresses.size}`);
          await transport.enableQueue(queue, addresses);
        },
      });
      const options = { aio: bench.driverAio, wanted: 0n, queueSizeMax: 32 };
      const session = await bench.run(initializeDevice(link, options));
      expect(steps).toEqual([
        'status 0',
        'status 1',
        'status 3',
        'features',
        'status 11',
        'queue 0 of 32',
        'queue 1 of 32',
        'queue 2 of 8',
        'status 15',
      ]);
      await bench.run(session.stop());
    });

    it('refuses a queue size limit that is no power of two', async () => {
      const options = { aio: bench.driverAio, wanted: 0n, queueSizeMax: 5 };
      await expect(initializeDevice(bench.link, options)).rejects.toBeInstanceOf(RangeError);
    });
  });

  describe('DriverSession', () => {
    it('a device that does not confirm its reset keeps the memory: stop rejects and nothing is reused', async () => {
      const session = await bench.run(
        initializeDevice(bench.link, { aio: bench.driverAio, wanted: 0n, timeoutMs: 50 }),
      );
      const held = lent.leaks();
      bench.device.isResetHeld = true;
      await expect(bench.run(session.stop())).rejects.toMatchObject({ code: 'ETIMEDOUT' });
      expect(lent.leaks()).toEqual(held);
      bench.device.finishReset();
      const leaks = await bench.close();
      expect(leaks.length).toBeGreaterThan(0);
    });

    it('a device that goes away instead of confirming its reset ends the stop', async () => {
      const { transport } = bench.link;
      const link = tamper(bench.link, {
        writeStatus: (status) => (status === 0 && isSilent ? never() : transport.writeStatus(status)),
      });
      let isSilent = false;
      const session = await bench.run(initializeDevice(link, { aio: bench.driverAio, wanted: 0n }));
      isSilent = true;
      const stopping = session.stop();
      await bench.run(bench.removeDevice!());
      await bench.run(stopping);
      expect(await bench.close()).toEqual([]);
    });

    it('a device that goes away before DRIVER_OK breaks the session from its start', async () => {
      const { transport } = bench.link;
      const link = tamper(bench.link, {
        writeStatus: async (status) => {
          if (status < STATUS_DRIVER_OK) return await transport.writeStatus(status);
          await bench.removeDevice!();
          for (let round = 0; round < 3; round += 1) await bench.settle();
          return undefined;
        },
      });
      const session = await initializeDevice(link, { aio: bench.driverAio, wanted: 0n });
      expect(session.broken).toBe('device gone: removed');
      await bench.run(session.stop());
      expect(await bench.close()).toEqual([]);
    });

    it('stop may be asked for twice, and onBroken for a session that is broken already', async () => {
      const session = await bench.start();
      bench.device.fail('The test says so');
      await bench.until('the driver is told', () => session.broken !== undefined);
      let reason: string | undefined;
      session.onBroken((why) => {
        reason = why;
      });
      await bench.until('the handler ran', () => reason !== undefined);
      await expect(bench.run(session.readConfig(0, 1))).rejects.toMatchObject({ code: 'ENODEV' });
      await bench.run(Promise.all([session.stop(), session.stop()]));
      session.kick(0);
      expect(await bench.close()).toEqual([]);
    });

    it('kicks and calls are suppressed while the other side is known to look', async () => {
      const session = await bench.start();
      const client = new EchoClient(session, ECHO_QUEUE);
      for (let request = 0; request < 100; request += 1) {
        client.send(1);
        if (request % 10 === 9) await bench.until('ten are back', () => client.pendingCount === 0);
      }
      const sent = session.statistics[ECHO_QUEUE]!;
      const answered = bench.host.statistics[ECHO_QUEUE]!;
      expect(sent.kicks + sent.kicksSuppressed).toBe(100);
      expect(sent.kicks).toBeLessThanOrEqual(10);
      expect(answered.requests).toBe(100);
      expect(answered.calls).toBeLessThanOrEqual(10);
      await bench.run(session.stop());
      expect(await bench.close()).toEqual([]);
    });

    const lies: readonly (readonly [string, number, number])[] = [
      ['§2.7.8 an id beyond the queue', 0xffff, 1],
      ['§2.7.8 an id that is not in flight', 3, 1],
      ['§2.7.8 more than is in flight', 0, 9],
    ];
    it.each(lies)('a device that uses %s breaks the session, not the driver', async (_, id, ahead) => {
      const session = await bench.start();
      const client = new EchoClient(session, DEFERRED_QUEUE);
      client.send(16);
      await bench.until('the device holds it', () => bench.device.deferredCount === 1);
      writeUsed(bench, client, id, ahead);
      await bench.until('the session is broken', () => {
        session.onCall(DEFERRED_QUEUE, () => client.collect());
        return session.broken !== undefined;
      });
      expect(session.broken).toContain('queue 2');
      expect(client.doneCount).toBe(0);
      await bench.run(session.stop());
      client.abandon();
      expect(await bench.close()).toEqual([]);
    });
  });

  /** Writes the device's ring behind its back. */
  function writeUsed(on: Bench, client: EchoClient, id: number, usedIdx: number): void {
    const { memory } = on.link.dma;
    const { deviceArea } = client.queue.addresses;
    const area = lent.deviceMemory.mapArea(deviceArea, VRING_USED.size, VRING_USED_ALIGN_SIZE, true);
    if (typeof area === 'number') throw new Error('The used ring is not reachable');
    const view = new DataView(memory.u8.buffer, area.offset);
    view.setUint32(VRING_USED_RING_OFFSET + VRING_USED_ELEM.offset.id, id, true);
    view.setUint16(VRING_USED.offset.idx, usedIdx, true);
    lent.deviceMemory.unmapArea(area);
  }
});
