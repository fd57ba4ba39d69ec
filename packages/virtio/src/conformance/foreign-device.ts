/** What holds of any device, seen by its driver alone: VIRTIO §2.1, §2.2, §2.5, §2.6, §2.7, §3.1. */
import { expect, it, type TestContext } from 'vitest';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  featureBit,
} from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { RING_FEATURES } from '../features.ts';
import { MALFORMED, MALFORMED_SIZE } from './faults.ts';
import { type ForeignBench, type ForeignSetup, withForeign } from './foreign-bench.ts';
import {
  BASE_FEATURES,
  RawQueue,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  negotiateRaw,
} from './raw-driver.ts';

const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const IN_ORDER = featureBit(VIRTIO_F_IN_ORDER);
const VERSION_1 = featureBit(VIRTIO_F_VERSION_1);
/** Settling so often is long for any device. */
const LONG = 10;

const VARIANTS: readonly (readonly [string, bigint])[] = [
  ['neither', 0n],
  ['indirect descriptors', featureBit(VIRTIO_RING_F_INDIRECT_DESC)],
  ['event index', featureBit(VIRTIO_RING_F_EVENT_IDX)],
  ['both', RING_FEATURES],
  ['both, in order', RING_FEATURES | IN_ORDER],
  ['packed format', PACKED],
  ['packed format and both', PACKED | RING_FEATURES],
];

type Body = (bench: ForeignBench, test: TestContext) => Promise<void>;
type Requirement = (name: string, body: Body) => void;

export function describeForeign(setup: ForeignSetup): void {
  const requirement: Requirement = (name, body) => {
    it(
      name,
      async (test) => {
        const known = Object.entries(setup.divergences ?? {}).find(([title]) => name.startsWith(title));
        if (known !== undefined) test.skip(`this device: ${known[1]}`);
        const held = await withForeign(setup, async (bench) => await body(bench, test));
        expect(held, 'what is still held after close').toEqual([]);
      },
      60_000,
    );
  };
  /** Not with a legacy interface, which lacks what is asked for. */
  const modern: Requirement = (name, body) => {
    requirement(name, async (bench, test) => {
      if (bench.transport.capabilities.legacy === true) test.skip('capabilities: legacy');
      await body(bench, test);
    });
  };
  describeControl(setup, requirement, modern);
  describeRings(setup, requirement, modern);
  describeEnds(requirement, modern);
}

function describeControl(setup: ForeignSetup, requirement: Requirement, modern: Requirement): void {
  requirement('§2.4 a device that was reset MUST show status 0', async (bench) => {
    await bench.writeStatuses(0);
    expect(await bench.readStatus()).toBe(0);
    await negotiateRaw(bench);
    expect(await bench.readStatus()).toBe(STATUS_FEATURES_OK);
    await bench.writeStatuses(0);
    expect(await bench.readStatus()).toBe(0);
  });

  requirement('§2.1 FAILED is taken at any time, and ended by a reset', async (bench) => {
    await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    await bench.writeStatuses(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FAILED);
    expect((await bench.readStatus()) & VIRTIO_CONFIG_S_FAILED).not.toBe(0);
    await bench.writeStatuses(0);
    expect(await bench.readStatus()).toBe(0);
  });

  modern('§2.2 the type, and VERSION_1 among the features', async (bench) => {
    expect(bench.transport.deviceType).toBe(setup.deviceType);
    const offered = await bench.run(bench.transport.readDeviceFeatures());
    expect(offered & VERSION_1).toBe(VERSION_1);
    expect(offered & (setup.features ?? 0n)).toBe(setup.features ?? 0n);
  });

  const refused: readonly (readonly [string, bigint, bigint])[] = [
    ['bits that were not offered', featureBit(24), 0n],
    ['a set without VIRTIO_F_VERSION_1', 0n, VERSION_1],
  ];
  for (const [what, more, less] of refused) {
    modern(`§2.2.2 FEATURES_OK stays clear for ${what} (case 41)`, async (bench) => {
      await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE, STATUS_DRIVER);
      const offered = await bench.run(bench.transport.readDeviceFeatures());
      await bench.run(bench.transport.writeDriverFeatures(((offered & BASE_FEATURES) | more) & ~less));
      await bench.writeStatuses(STATUS_FEATURES_OK);
      expect(await bench.readStatus()).toBe(STATUS_DRIVER);
      await bench.writeStatuses(0);
    });
  }

  requirement('§2.6 each queue has a size, and 0 is where there is no queue', async (bench) => {
    const { transport } = bench;
    expect(await bench.run(transport.readQueueSizeMax(bench.queue))).toBeGreaterThan(1);
    expect(await bench.run(transport.readQueueSizeMax(transport.queueCount))).toBe(0);
  });

  modern('§2.6 the driver may use less of a queue than there is', async (bench) => {
    const session = await bench.start(RING_FEATURES, { queueSizeMax: 4 });
    expect(session.queues[bench.queue]!.size).toBe(4);
    await bench.exchange(session, bench.client(session), 20);
    await bench.run(session.stop());
  });

  modern('§2.5.2 the generation stands still while the configuration does', async (bench) => {
    const session = await bench.start();
    const generations = [0, 1, 2].map(() => bench.transport.readConfigGeneration());
    expect(new Set(await bench.run(Promise.all(generations))).size).toBe(1);
    await bench.run(session.stop());
  });
}

function describeRings(setup: ForeignSetup, requirement: Requirement, modern: Requirement): void {
  for (const [name, features] of VARIANTS) {
    requirement(`§2.7 requests and many laps of a full ring with ${name}`, async (bench, test) => {
      const offered = await bench.run(bench.transport.readDeviceFeatures());
      const missing = features & (PACKED | IN_ORDER) & ~offered;
      if (missing !== 0n) test.skip('the device does not offer it');
      const session = await bench.start(features);
      expect(session.features & features).toBe(features & offered);
      const client = bench.client(session);
      await bench.exchange(session, client, 1);
      await bench.exchange(session, client, 4 * session.queues[bench.queue]!.size);
      expect(session.statistics[bench.queue]!.calls).toBeGreaterThan(0);
      await bench.run(session.stop());
    });
  }

  requirement('§2.7 the 16-bit indices of a queue wrap without a trace', async (bench) => {
    const session = await bench.start();
    const count = setup.enduranceCount ?? 3 * session.queues[bench.queue]!.size;
    await bench.exchange(session, bench.client(session), count);
    await bench.run(session.stop());
  });

  for (const [name, features] of [
    ['no event index', 0n],
    ['event index', RING_FEATURES],
  ] as const) {
    requirement(`§2.7.7.1 a driver that wants no call gets none, with ${name}`, async (bench) => {
      const session = await bench.start(features);
      const client = bench.client(session);
      const queue = session.queues[bench.queue]!;
      await bench.exchange(session, client, 1);
      // The call for it may still be under way.
      for (let round = 0; round < LONG; round += 1) await bench.settle();
      session.onCall(bench.queue, undefined);
      queue.disableCalls();
      const { calls } = session.statistics[bench.queue]!;
      for (let request = 0; request < 5; request += 1) {
        expect(client.add()).toBe(true);
        session.kick(bench.queue);
        await bench.until('it is used', () => queue.hasUsed());
        client.collect();
      }
      for (let round = 0; round < LONG; round += 1) await bench.settle();
      expect(session.statistics[bench.queue]!.calls).toBe(calls);
      expect([client.pendingCount, client.faults]).toEqual([0, []]);
      await bench.run(session.stop());
    });
  }

  requirement('§2.7.10 a kick for nothing does no harm', async (bench) => {
    const session = await bench.start();
    const client = bench.client(session);
    for (let round = 0; round < 20; round += 1) {
      bench.transport.kick(bench.queue);
      if (round % 5 === 0) await bench.exchange(session, client, 1);
    }
    expect(session.broken).toBeUndefined();
    await bench.run(session.stop());
  });

  modern('§2.1.2 the device MUST NOT consume buffers before DRIVER_OK, whatever is kicked', async (bench) => {
    await withRaw(bench, async (raw) => {
      raw.descriptor(0, { addr: raw.address, len: 16, flags: bench.bufferFlags, next: 0 });
      raw.availableEntry(0, 0);
      raw.availableIndex(1);
      bench.transport.kick(bench.queue);
      for (let round = 0; round < LONG; round += 1) await bench.settle();
      expect(raw.usedIndex).toBe(0);
      expect(await bench.readStatus()).toBe(STATUS_FEATURES_OK);
    });
  });
}

function describeEnds(requirement: Requirement, modern: Requirement): void {
  for (const [name, write] of MALFORMED) {
    modern(`§2.1.2 ${name}: DEVICE_NEEDS_RESET, and works after it`, async (bench) => {
      await withRaw(bench, async (raw) => {
        let toldCount = 0;
        bench.transport.onConfigChange(() => (toldCount += 1));
        await bench.writeStatuses(STATUS_DRIVER_OK);
        write(raw);
        bench.transport.kick(bench.queue);
        await bench.until('the driver is told', () => toldCount > 0);
        expect((await bench.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
        bench.transport.onConfigChange(undefined);
      });
      await bench.exerciseOnce();
    });
  }

  requirement('§2.4 a device works again after each of three resets', async (bench) => {
    for (let round = 0; round < 3; round += 1) await bench.exerciseOnce();
  });

  requirement('§2.4.1 a reset with requests in flight ends them all, again and again', async (bench) => {
    for (let round = 0; round < 6; round += 1) {
      const session = await bench.start();
      const client = bench.client(session);
      while (client.add()) continue;
      session.kick(bench.queue);
      for (let step = 0; step < round; step += 1) await Promise.resolve();
      await bench.run(session.stop());
      client.abandon();
    }
    await bench.exerciseOnce();
  });

  const withReset = (name: string, body: Body): void => {
    modern(name, async (bench, test) => {
      if (!bench.transport.capabilities.queueReset) test.skip('capabilities: no queueReset');
      await body(bench, test);
    });
  };
  for (const [name, ring] of [
    ['split', RING_FEATURES],
    ['packed', RING_FEATURES | PACKED],
  ] as const) {
    withReset(
      `§2.6.1 a queue that was reset alone works again, empty and with traffic, ${name}`,
      async (bench) => {
        const session = await bench.start(ring);
        const before = bench.client(session);
        await bench.exchange(session, before, 3);
        for (let round = 0; round < 6; round += 1) {
          const client = bench.client(session);
          for (let request = 0; request < round; request += 1) client.add();
          session.kick(bench.queue);
          await bench.run(session.resetQueue(bench.queue));
          client.abandon();
          await bench.exchange(session, bench.client(session), 5);
        }
        expect(session.broken).toBeUndefined();
        await bench.run(session.stop());
      },
    );
  }

  withReset('§2.6.1 a queue may come back smaller, and larger again', async (bench) => {
    const session = await bench.start();
    for (const size of [8, 32]) {
      const fresh = await bench.run(session.resetQueue(bench.queue, { size }));
      expect(fresh.size).toBe(size);
      await bench.exchange(session, bench.client(session), 3 * size);
    }
    await bench.run(session.stop());
  });
}

/** A ring of the raw driver in the bench's queue, before DRIVER_OK. Resets at the end. */
async function withRaw(bench: ForeignBench, body: (raw: RawQueue) => Promise<void>): Promise<void> {
  await negotiateRaw(bench, BASE_FEATURES);
  const raw = new RawQueue(bench.link.dma, MALFORMED_SIZE, bench.bufferFlags);
  try {
    await bench.run(bench.transport.enableQueue(bench.queue, raw.addresses));
    await body(raw);
  } finally {
    await bench.writeStatuses(0);
    raw.free();
  }
}
