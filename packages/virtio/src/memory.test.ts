import { describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import { describeDevice, describeTransport } from './conformance.ts';
import { EchoClient } from './conformance/echo-client.ts';
import { createMemoryBench, type LentMemory, type LoopPair } from './conformance/memory-bench.ts';
import { ECHO_QUEUE, ProbeDevice } from './conformance/probe-device.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';
import type { DoorbellPolicy } from './doorbell.ts';
import { initializeDevice } from './initialize-device.ts';

const POLICIES: readonly DoorbellPolicy[] = ['calm', 'coalescing', 'late', 'spurious'];
const SEEDS: readonly number[] = [1, 20_251_121];
const DISORDERLY: readonly DoorbellPolicy[] = ['late', 'spurious'];
/** Twice around the 16-bit indices, and some. */
const WRAP_COUNT = 70_000;

for (const deliver of POLICIES) {
  for (const seed of DISORDERLY.includes(deliver) ? SEEDS : SEEDS.slice(0, 1)) {
    describeTransport({
      name: `memory, simulation with ${deliver} doorbells, seed ${seed}`,
      enduranceCount: seed === 1 ? WRAP_COUNT : 1000,
      create: async ({ device }) => createMemoryBench({ device, loops: new SimulatedLoops(seed, deliver) }),
    });
  }
  describeTransport({
    name: `memory with ${deliver} doorbells of its own, hostile memory`,
    create: async ({ device }) =>
      createMemoryBench({
        device,
        doorbells: deliver,
        seed: 7,
        lent: hostileMemory(),
        loops: new SimulatedLoops(3),
        accessPlatform: true,
      }),
  });
}

describeTransport({
  name: 'memory, two loops of the platform',
  create: async ({ device }) => createMemoryBench({ device, loops: platformLoops() }),
});

describeTransport({
  name: 'memory, two loops of the platform, no polling, late doorbells',
  polling: false,
  create: async ({ device }) =>
    createMemoryBench({
      device,
      doorbells: 'late',
      loops: platformLoops(),
      hostOptions: { polling: false },
    }),
});

const deviceSetups: readonly (readonly [string, () => LoopPair])[] = [
  ...SEEDS.map((seed): [string, () => LoopPair] => [
    `simulation, seed ${seed}`,
    () => new SimulatedLoops(seed, 'late'),
  ]),
  ['loops of the platform', platformLoops],
];
for (const [name, makeLoops] of deviceSetups) {
  describeDevice({
    name: `probe, ${name}`,
    createDevice: () => new ProbeDevice(),
    connect: async (device) => createMemoryBench({ device, loops: makeLoops() }),
    drive: async (link, aio) => {
      await using session = await initializeDevice(link, { aio, wanted: 0n });
      const client = new EchoClient(session, ECHO_QUEUE);
      const answered = Promise.withResolvers<void>();
      session.onCall(ECHO_QUEUE, () => {
        client.collect();
        if (client.pendingCount === 0) answered.resolve();
      });
      client.send(5000, 3);
      await answered.promise;
      if (client.doneCount !== 1) throw new Error(client.faults.join());
    },
  });
}

describe('memory transport', () => {
  it('tells of a device that is gone also to a driver that asks late, and only once', async () => {
    const device = new ProbeDevice();
    const loops = new SimulatedLoops(1);
    const bench = createMemoryBench({ device, loops });
    await bench.removeDevice();
    await loops.settle();
    const reasons: string[] = [];
    bench.link.transport.onGone((reason) => reasons.push(reason));
    bench.link.transport.kick(0);
    for (let round = 0; round < 5; round += 1) await loops.settle();
    bench.link.transport.onGone((reason) => reasons.push(reason));
    for (let round = 0; round < 5; round += 1) await loops.settle();
    expect(reasons).toEqual(['removed']);
    expect(await bench.close()).toEqual([]);
  });
});

function hostileMemory(): LentMemory {
  const dma = new HostileDmaMapper({ memorySize: 4 << 20 });
  return { memory: dma.memory, dma, deviceMemory: dma.deviceMemory, leaks: () => dma.leaks() };
}

function platformLoops(): LoopPair {
  return {
    driverAio: createAioContext(),
    deviceAio: createAioContext(),
    // One turn of the platform's timers: everything that was due has run by then.
    settle: () => new Promise((resolve) => setTimeout(resolve)),
  };
}
