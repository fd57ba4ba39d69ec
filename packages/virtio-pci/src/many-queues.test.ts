import { describe, expect, it } from 'vitest';
import { initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import { EchoDevice } from './testing/echo-device.ts';
import { PciMachine, type PciMachineOptions } from './testing/pci-machine.ts';

const QUEUE_COUNT = 64;

const variants: readonly [string, Partial<PciMachineOptions>][] = [
  ['msix-per-queue', {}],
  ['msix-per-queue', { notifyMultiplier: 4096, doorbells: true }],
  ['msix-shared', { vectorCount: 8 }],
  ['msix-shared', { vectorCountMax: 10, notifyMultiplier: 0 }],
  ['intx', { vectorCount: 1 }],
  ['intx', { vectorCount: 0, doorbells: true }],
];

describe(`${QUEUE_COUNT} queues, more than vectors or not`, () => {
  it.each(variants)('§4.1.5.1.2 every queue works: %s, %o', async (callMode, options) => {
    const loops = new SimulatedLoops(9);
    const { driverAio, deviceAio } = loops;
    const device = new EchoDevice(Array.from({ length: QUEUE_COUNT }, () => 4));
    const machine = new PciMachine({ device, driverAio, deviceAio, ...options });
    const link = await machine.connect();
    expect([link.transport.callMode, link.transport.queueCount]).toEqual([callMode, QUEUE_COUNT]);
    const aio = driverAio;
    const session = await loops.run(initializeDevice(link, { aio, wanted: 0n, polling: false }));
    const called = new Uint32Array(QUEUE_COUNT);
    for (let queue = 0; queue < QUEUE_COUNT; queue += 1) {
      link.transport.onCall(queue, () => void called[queue]!++);
    }
    for (const queue of [0, 63, 17]) {
      const before = called.slice();
      machine.pciFunction.call(queue);
      await loops.settle();
      const runs = called.map((count, at) => count - before[at]!);
      expect(runs[queue]).toBe(1);
      const others = callMode === 'msix-per-queue' ? 0 : QUEUE_COUNT - 1;
      expect(runs.reduce((sum, count) => sum + count, 0)).toBe(1 + others);
      const kicks = machine.pciFunction.statistics.kickCount;
      link.transport.kick(queue);
      await loops.settle();
      expect(machine.pciFunction.statistics.kickCount).toBe(kicks + 1);
    }
    await loops.run(session.stop());
    await loops.run(link[Symbol.asyncDispose]());
    expect(await machine.close()).toEqual([]);
  });
});
