import { describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import { createBufferList } from '@virtlab/vring';
import { TransportError, initializeDevice, type VirtioDevice } from '@virtlab/virtio';
import {
  SimulatedLoops,
  createMemoryBench,
  describeDevice,
  type TransportUnderTest,
} from '@virtlab/virtio/conformance';
import { runUntilDone } from '@virtlab/virtio/testing';
import { FILL_SIZE_MAX, type RandomSource } from './random-source.ts';
import { createRngDevice } from './rng-device.ts';
import { createRngDriver, type RngDriver } from './rng-driver.ts';
import { nodeCryptoSource } from './node/index.ts';

/** Bytes that count: what the source gave can be recognised where it arrives. */
function countingSource(): RandomSource {
  let next = 1;
  return {
    fill: (bytes) => {
      for (let at = 0; at < bytes.length; at += 1) bytes[at] = next++ & 0xff;
    },
  };
}

for (const [name, source] of [
  ['counting', countingSource()],
  ['Node', nodeCryptoSource],
] as const) {
  describeDevice({
    name: `rng, ${name} source`,
    createDevice: () => createRngDevice({ source }),
    drive: async (link, aio) => {
      await using driver = await createRngDriver(link, { aio });
      const bytes = new Uint8Array(100);
      if ((await driver.read(bytes)) !== 100 || bytes.every((byte) => byte === 0))
        throw new Error('No bytes came');
    },
  });
}

async function withDriver(
  device: VirtioDevice,
  body: (driver: RngDriver, bench: TransportUnderTest) => Promise<void>,
): Promise<void> {
  const bench = createMemoryBench({ device, loops: new SimulatedLoops(1) });
  const driver = await runUntilDone(bench, createRngDriver(bench.link, { aio: bench.driverAio }));
  await body(driver, bench);
  await runUntilDone(bench, driver.stop());
  expect(await runUntilDone(bench, bench.close())).toEqual([]);
}

describe('rng device and driver', () => {
  it.each([1, 511, 512, 4095, 4096])('§5.4.6 fills %i bytes with what the source gave', async (size) => {
    await withDriver(createRngDevice({ source: countingSource() }), async (driver, bench) => {
      const bytes = new Uint8Array(size + 1);
      expect(await runUntilDone(bench, driver.read(bytes.subarray(0, size)))).toBe(size);
      expect(bytes.every((byte, at) => byte === (at < size ? (at + 1) & 0xff : 0))).toBe(true);
    });
  });

  it('a read of more than a page gives a page, and one of nothing gives nothing', async () => {
    await withDriver(createRngDevice(), async (driver, bench) => {
      expect(await runUntilDone(bench, driver.read(new Uint8Array(4097)))).toBe(4096);
      expect(await runUntilDone(bench, driver.read(new Uint8Array(0)))).toBe(0);
      expect(bench.host.statistics[0]!.requests).toBe(1);
    });
  });

  it('any number of reads may wait at once', async () => {
    await withDriver(createRngDevice({ source: countingSource() }), async (driver, bench) => {
      const reads = Array.from({ length: 50 }, () => new Uint8Array(16));
      const sizes = await runUntilDone(bench, Promise.all(reads.map((bytes) => driver.read(bytes))));
      expect(new Set(sizes)).toEqual(new Set([16]));
      const firsts = reads.map((bytes) => bytes[0]);
      expect(new Set(firsts).size).toBeGreaterThan(10);
    });
  });

  it('§5.4.6.1 device-readable bytes make the device need reset', async () => {
    const bench = createMemoryBench({ device: createRngDevice(), loops: new SimulatedLoops(1) });
    const session = await runUntilDone(
      bench,
      initializeDevice(bench.link, { aio: bench.driverAio, wanted: 0n }),
    );
    const { dma } = bench.link;
    const buffers = createBufferList();
    const offset = dma.allocate(64);
    buffers.addReadable(offset, 32);
    buffers.addWritable(offset + 32, 32);
    session.queues[0]!.add(buffers, 0);
    session.kick(0);
    for (let round = 0; round < 10; round += 1) await bench.settle();
    expect(bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    expect(bench.host.violation?.section).toBe('5.4.6.1');
    expect(session.broken).toBeDefined();
    await runUntilDone(bench, session.stop());
    dma.free(offset, 64);
    expect(await runUntilDone(bench, bench.close())).toEqual([]);
  });

  it('§5.4.6.2 a request with room for much gets a bounded part', async () => {
    const bench = createMemoryBench({ device: createRngDevice(), loops: new SimulatedLoops(1) });
    const session = await runUntilDone(
      bench,
      initializeDevice(bench.link, { aio: bench.driverAio, wanted: 0n }),
    );
    const { dma } = bench.link;
    const size = FILL_SIZE_MAX * 3;
    const buffers = createBufferList();
    const offset = dma.allocate(size);
    buffers.addWritable(offset, size);
    session.queues[0]!.add(buffers, 5);
    session.kick(0);
    for (let round = 0; round < 10; round += 1) await bench.settle();
    expect(session.queues[0]!.popUsed()).toBe(5);
    expect(session.queues[0]!.usedSize).toBe(FILL_SIZE_MAX);
    await runUntilDone(bench, session.stop());
    dma.free(offset, size);
    expect(await runUntilDone(bench, bench.close())).toEqual([]);
  });

  it('reads end with ENODEV when the device goes away, and afterwards', async () => {
    const silent: RandomSource = {
      fill: () => {
        throw new Error('The source is dry, on purpose');
      },
    };
    await withDriver(createRngDevice({ source: silent }), async (driver, bench) => {
      const reads = Array.from({ length: 20 }, () => driver.read(new Uint8Array(8)));
      const outcomes = await runUntilDone(bench, Promise.allSettled(reads));
      const reasons = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason : undefined));
      expect(reasons.every((reason) => reason instanceof TransportError && reason.code === 'ENODEV')).toBe(
        true,
      );
      await expect(driver.read(new Uint8Array(8))).rejects.toMatchObject({ code: 'ENODEV' });
    });
  });

  it('reads end with ENODEV when the driver is stopped', async () => {
    const bench = createMemoryBench({ device: createRngDevice(), loops: new SimulatedLoops(1) });
    const driver = await runUntilDone(bench, createRngDriver(bench.link, { aio: bench.driverAio }));
    const read = driver.read(new Uint8Array(8));
    const stopping = driver.stop();
    await expect(driver.read(new Uint8Array(8))).rejects.toMatchObject({ code: 'ENODEV' });
    await expect(runUntilDone(bench, read)).rejects.toMatchObject({ code: 'ENODEV' });
    await runUntilDone(bench, stopping);
    expect(await runUntilDone(bench, bench.close())).toEqual([]);
  });

  it('reads end with ENODEV when no buffer can be lent', async () => {
    const dma = new HostileDmaMapper({ shareMax: 0 });
    const lent = { memory: dma.memory, dma, deviceMemory: dma.deviceMemory, leaks: () => dma.leaks() };
    const bench = createMemoryBench({ device: createRngDevice(), lent, loops: new SimulatedLoops(1) });
    const driver = await runUntilDone(bench, createRngDriver(bench.link, { aio: bench.driverAio }));
    await expect(driver.read(new Uint8Array(8))).rejects.toMatchObject({ code: 'ENODEV' });
    await runUntilDone(bench, driver.stop());
    expect(await runUntilDone(bench, bench.close())).toEqual([]);
  });

  it('runs over the loop of the platform', async () => {
    const aio = createAioContext();
    const bench = createMemoryBench({
      device: createRngDevice(),
      loops: { driverAio: aio, deviceAio: aio, settle: () => Promise.resolve() },
    });
    const driver = await createRngDriver(bench.link, { aio });
    const [one, other] = [new Uint8Array(32), new Uint8Array(32)];
    expect(await Promise.all([driver.read(one), driver.read(other)])).toEqual([32, 32]);
    expect(one).not.toEqual(other);
    await driver.stop();
    expect(await bench.close()).toEqual([]);
  });
});
