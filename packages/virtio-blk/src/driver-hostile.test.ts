import { describe, expect, it } from 'vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_NET, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
} from '@virtlab/abi/virtio-blk';
import { type ScriptedTransport, SimulatedLoops } from '@virtlab/virtio/testing';
import { ADD_BROKEN } from '@virtlab/vring';
import type { BlkDriver } from './driver-contract.ts';
import type { BlkDriverOptions } from './driver-options.ts';
import { createBlkDriver } from './driver.ts';
import { COMPLETION_ENODEV, COMPLETION_EPROTO, COMPLETION_ETIMEDOUT } from './errors.ts';
import { type BlkConfig, encodeConfig } from './protocol.ts';
import { createScriptedDisk, takeRequests, useRequest } from './testing/scripted-disk.ts';

const SECTOR = 512;
const FEATURES = featureBits(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH);

interface Scene {
  readonly driver: BlkDriver;
  readonly disk: ScriptedTransport;
  readonly loops: SimulatedLoops;
  /** `[token, completion]` as reported. */
  readonly ended: [number, number][];
  readonly buffer: number;
}

const goodConfig: Partial<BlkConfig> = { capacity: 1000n, seg_max: 8, blk_size: 512 };

function scriptedDisk(config: Partial<BlkConfig>, features: FeatureBits): ScriptedTransport {
  return createScriptedDisk({ features, config: encodeConfig({ ...goodConfig, ...config }) });
}

/** Keeps a rejection from being unhandled until it is looked at. */
async function outcomeOf<T>(work: Promise<T>): Promise<PromiseSettledResult<T>> {
  return (await Promise.allSettled([work]))[0];
}

async function settled<T>(loops: SimulatedLoops, work: Promise<T>): Promise<PromiseSettledResult<T>> {
  return await loops.run(outcomeOf(work));
}

async function withScript(
  body: (scene: Scene) => Promise<void>,
  {
    config = {},
    features = FEATURES,
    ...options
  }: Partial<BlkDriverOptions> & {
    readonly config?: Partial<BlkConfig>;
    readonly features?: FeatureBits;
  } = {},
): Promise<void> {
  const disk = scriptedDisk(config, features);
  const loops = new SimulatedLoops(1);
  const made = await settled(loops, createBlkDriver(disk.link, { aio: loops.driverAio, ...options }));
  if (made.status === 'rejected') throw made.reason;
  const driver = made.value;
  const ended: [number, number][] = [];
  driver.onCompletion((token, completion) => ended.push([token, completion]));
  const buffer = driver.allocateBuffer(16 * SECTOR);
  await body({ driver, disk, loops, ended, buffer });
  expect((await settled(loops, driver.close())).status).toBe('fulfilled');
  expect([...disk.leaks(), ...loops.driverAio.leaks()]).toEqual([]);
}

describe('a configuration that makes no sense is refused, and the device let go', () => {
  const cases: [string, Partial<BlkConfig>, FeatureBits, string][] = [
    ['capacity of 2^44 + 1 sectors', { capacity: (1n << 44n) + 1n }, FEATURES, 'capacity'],
    ['capacity of 2^64 - 1 sectors', { capacity: (1n << 64n) - 1n }, FEATURES, 'capacity'],
    ['block size 0', { blk_size: 0 }, FEATURES, 'blk_size'],
    ['block size 768', { blk_size: 768 }, FEATURES, 'blk_size'],
    ['block size 2^31', { blk_size: 0x8000_0000 }, FEATURES, 'blk_size'],
    ['no queue', { num_queues: 0 }, FEATURES | featureBits(VIRTIO_BLK_F_MQ), 'num_queues'],
    [
      'segments of less than a sector',
      { size_max: 511 },
      FEATURES | featureBits(VIRTIO_BLK_F_SIZE_MAX),
      'size_max',
    ],
  ];
  it.each(cases)('%s', async (_what, config, features, field) => {
    const disk = scriptedDisk(config, features);
    const loops = new SimulatedLoops(1);
    const outcome = await settled(loops, createBlkDriver(disk.link, { aio: loops.driverAio }));
    expect(outcome).toMatchObject({ reason: { name: 'BlkError', code: 'EPROTO' } });
    expect((outcome as PromiseRejectedResult).reason.message).toContain(field);
    expect(disk.resetCount).toBe(2);
    expect([...disk.leaks(), ...loops.driverAio.leaks()]).toEqual([]);
  });

  it('a device that is no disk, or whose queue holds no request', async () => {
    const loops = new SimulatedLoops(1);
    const config = encodeConfig(goodConfig);
    const net = createScriptedDisk({ features: FEATURES, config, deviceType: VIRTIO_ID_NET });
    expect(await settled(loops, createBlkDriver(net.link, { aio: loops.driverAio }))).toMatchObject({
      reason: { code: 'EPROTO' },
    });
    const tiny = createScriptedDisk({ features: FEATURES, config, queueSizeMax: 2 });
    expect(await settled(loops, createBlkDriver(tiny.link, { aio: loops.driverAio }))).toMatchObject({
      reason: { code: 'EPROTO' },
    });
    expect([...net.leaks(), ...tiny.leaks(), ...loops.driverAio.leaks()]).toEqual([]);
  });

  it('§5.2.4 num_queues beyond what the transport offers makes sense: what it offers is used', async () => {
    await withScript(
      async ({ driver, disk, ended, buffer }) => {
        expect(driver.queueStatistics).toHaveLength(1);
        driver.submitRead(0, buffer, SECTOR, 1);
        driver.kick();
        useRequest(disk, takeRequests(disk)[0]!, VIRTIO_BLK_S_OK);
        disk.call();
        expect(ended).toEqual([[1, VIRTIO_BLK_S_OK]]);
      },
      { config: { num_queues: 4 }, features: FEATURES | featureBits(VIRTIO_BLK_F_MQ), queueCount: 4 },
    );
  });

  it('limits of 0 mean one segment and any number of sectors', async () => {
    await withScript(
      async ({ driver, disk, loops }) => {
        expect(driver.transferSizeMax).toBe(1024);
        const discarded = outcomeOf(driver.discard(0, 1000));
        await loops.settle();
        const [request, ...more] = takeRequests(disk);
        expect([request!.type, more]).toEqual([VIRTIO_BLK_T_DISCARD, []]);
        useRequest(disk, request!, VIRTIO_BLK_S_OK);
        disk.call();
        await loops.settle();
        expect((await discarded).status).toBe('fulfilled');
      },
      {
        config: { seg_max: 0, size_max: 1024 },
        features: FEATURES | featureBits(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_SIZE_MAX),
      },
    );
  });
});

describe('a device that lies about a request', () => {
  it.each([
    ['left no status', undefined],
    ['left a status of zoned devices', 3],
    ['left 0xfe', 0xfe],
  ])('EPROTO when it %s; the driver works on', async (_what, status) => {
    await withScript(async ({ driver, disk, loops, ended, buffer }) => {
      driver.submitRead(5, buffer, SECTOR, 1);
      driver.kick();
      const [request] = takeRequests(disk);
      expect([request!.type, request!.sector]).toEqual([VIRTIO_BLK_T_IN, 5n]);
      useRequest(disk, request!, status);
      disk.call();
      expect(ended).toEqual([[1, COMPLETION_EPROTO]]);
      const read = outcomeOf(driver.read(0, new Uint8Array(SECTOR)));
      await loops.settle();
      useRequest(disk, takeRequests(disk)[0]!, VIRTIO_BLK_S_OK);
      disk.call();
      expect((await read).status).toBe('fulfilled');
    });
  });

  it('case 32: a used length beyond or short of the buffers harms nothing; short ones are counted', async () => {
    await withScript(async ({ driver, disk, ended, buffer }) => {
      for (const [token, usedSize] of [0, 1, 513, 0xffff_ffff].entries()) {
        driver.submitRead(0, buffer, SECTOR, token);
        driver.kick();
        useRequest(disk, takeRequests(disk)[0]!, VIRTIO_BLK_S_OK, usedSize);
        disk.call();
      }
      expect(ended).toEqual([0, 1, 2, 3].map((token) => [token, VIRTIO_BLK_S_OK]));
      expect(driver.statistics.shortCompletions).toBe(2);
    });
  });

  it('case 34: headers that it overwrites are not read back', async () => {
    await withScript(async ({ driver, disk, ended, buffer }) => {
      driver.submitRead(7, buffer, SECTOR, 4);
      driver.kick();
      const [request] = takeRequests(disk);
      const at = disk.at(request!.descriptors[0]!.address);
      disk.memory.u8.fill(0xff, at, at + 16);
      useRequest(disk, request!, VIRTIO_BLK_S_OK);
      disk.call();
      driver.submitRead(8, buffer, SECTOR, 5);
      driver.kick();
      expect(takeRequests(disk)[0]).toMatchObject({ type: VIRTIO_BLK_T_IN, sector: 8n });
      expect(ended).toEqual([[4, VIRTIO_BLK_S_OK]]);
    });
  });

  it.each([
    ['case 30: a used id beyond the queue', 999],
    ['case 31: a used id that is not outstanding', 15],
  ])('%s breaks the queue: everything in flight ends, nothing is accepted', async (_what, id) => {
    await withScript(async ({ driver, disk, loops, ended, buffer }) => {
      driver.submitRead(0, buffer, SECTOR, 1);
      driver.submitRead(0, buffer, SECTOR, 2);
      const read = outcomeOf(driver.read(0, new Uint8Array(SECTOR)));
      await loops.settle();
      disk.rings[0]!.use(id, 0);
      disk.call();
      await loops.settle();
      expect(ended).toEqual([
        [1, COMPLETION_ENODEV],
        [2, COMPLETION_ENODEV],
      ]);
      expect(await read).toMatchObject({ reason: { code: 'ENODEV' } });
      expect(driver.failure).toMatch(/used/i);
    });
  });

  it('§2.1.2 DEVICE_NEEDS_RESET ends everything in flight with that reason', async () => {
    await withScript(async ({ driver, disk, loops, ended, buffer }) => {
      driver.submitRead(0, buffer, SECTOR, 9);
      driver.kick();
      disk.needReset();
      await loops.settle();
      expect(ended).toEqual([[9, COMPLETION_ENODEV]]);
      expect(driver.failure).toContain('needs reset');
    });
  });

  it('a device that vanishes is not asked for a reset, and all memory is taken back', async () => {
    await withScript(async ({ driver, disk, loops, ended, buffer }) => {
      driver.submitRead(0, buffer, SECTOR, 9);
      driver.kick();
      disk.vanish('its domain died');
      await loops.settle();
      expect(ended).toEqual([[9, COMPLETION_ENODEV]]);
      expect(driver.failure).toContain('its domain died');
    });
  });

  it('a device that does not confirm the reset keeps the memory: none of it is reused', async () => {
    const disk = scriptedDisk({}, FEATURES);
    const loops = new SimulatedLoops(1);
    const made = await settled(loops, createBlkDriver(disk.link, { aio: loops.driverAio, timeoutMs: 1000 }));
    const driver = (made as PromiseFulfilledResult<BlkDriver>).value;
    const buffer = driver.allocateBuffer(SECTOR);
    driver.submitRead(0, buffer, SECTOR, 0);
    driver.kick();
    const before = disk.leaks();
    disk.isDeaf = true;
    const closing = outcomeOf(driver.close());
    await loops.settle();
    await loops.simulation.advance(1001);
    expect(await closing).toMatchObject({ reason: { code: 'ETIMEDOUT' } });
    expect(disk.leaks()).toEqual(before);
    expect(loops.driverAio.leaks()).toEqual([]);
  });

  it('late with a request: its buffer is not freed before the reset, and no other is allocated', async () => {
    await withScript(
      async ({ driver, disk, loops, ended, buffer }) => {
        driver.submitRead(0, buffer, SECTOR, 1);
        driver.kick();
        await loops.simulation.advance(1001);
        expect(ended).toEqual([[1, COMPLETION_ETIMEDOUT]]);
        const held = disk.leaks();
        driver.freeBuffer(buffer);
        expect(disk.leaks()).toEqual(held);
        expect(() => driver.allocateBuffer(SECTOR)).toThrow(/ENODEV.*1000 ms/);
      },
      { timeoutMs: 1000 },
    );
  });

  it('late with a write: what a later one is refused with does not stand where it still reads', async () => {
    await withScript(
      async ({ driver, disk, loops }) => {
        const late = outcomeOf(driver.write(0, new Uint8Array(SECTOR).fill(0x11)));
        await loops.settle();
        const [request] = takeRequests(disk);
        await loops.simulation.advance(1001);
        expect(await late).toMatchObject({ reason: { code: 'ETIMEDOUT' } });
        const refused = await outcomeOf(driver.write(1, new Uint8Array(SECTOR).fill(0x22)));
        expect(refused).toMatchObject({ reason: { code: 'ENODEV' } });
        const at = disk.at(request!.descriptors[1]!.address);
        expect(new Set(disk.memory.u8.subarray(at, at + SECTOR))).toEqual(new Set([0x11]));
      },
      { timeoutMs: 1000 },
    );
  });

  it('of a driver that was closed nothing is written or allocated', async () => {
    await withScript(
      async ({ driver, disk, loops, buffer }) => {
        const write = outcomeOf(driver.write(0, new Uint8Array(SECTOR)));
        await loops.settle();
        useRequest(disk, takeRequests(disk)[0]!, VIRTIO_BLK_S_OK);
        disk.call();
        expect((await write).status).toBe('fulfilled');
        await loops.run(driver.close());
        const before = disk.memory.u8.slice();
        const sector = new Uint8Array(SECTOR).fill(0x22);
        for (const ask of [
          () => driver.write(0, sector),
          () => driver.read(0, sector),
          () => driver.flush(),
          () => driver.discard(0, 8),
        ])
          expect(await settled(loops, ask())).toMatchObject({ reason: { code: 'ENODEV' } });
        expect([driver.submitRead(0, buffer, SECTOR, 1), driver.submitFlush(2)]).toEqual([
          ADD_BROKEN,
          ADD_BROKEN,
        ]);
        expect(() => driver.freeBuffer(buffer)).toThrow(RangeError);
        await loops.simulation.advance(100_000);
        expect(Buffer.compare(disk.memory.u8, before)).toBe(0);
        expect(disk.leaks()).toEqual([]);
      },
      { features: FEATURES | featureBits(VIRTIO_BLK_F_DISCARD) },
    );
  });

  it('cannot reset a queue alone: what was asked for while it was found out goes on', async () => {
    await withScript(async ({ driver, disk, loops }) => {
      const reset = outcomeOf(driver.resetQueue(0));
      const read = outcomeOf(driver.read(0, new Uint8Array(SECTOR)));
      expect(await settled(loops, reset)).toMatchObject({ value: { reason: { code: 'ENOTSUP' } } });
      await loops.settle();
      useRequest(disk, takeRequests(disk)[0]!, VIRTIO_BLK_S_OK);
      disk.call();
      expect((await read).status).toBe('fulfilled');
    });
  });

  it('follows a capacity that changes, unless it makes no sense', async () => {
    await withScript(async ({ driver, disk, loops }) => {
      disk.changeConfig(encodeConfig({ ...goodConfig, capacity: 5000n }));
      await loops.settle();
      expect(driver.capacitySectors).toBe(5000);
      disk.changeConfig(encodeConfig({ ...goodConfig, capacity: 1n << 60n }));
      await loops.settle();
      expect(driver.capacitySectors).toBe(5000);
    });
  });
});

describe('options', () => {
  it.each([
    { timeoutMs: 0 },
    { queueCount: 0 },
    { queueSize: 3 },
    { queueDepth: 0 },
    { bounceSize: 100 },
    { bounceCount: 1.5 },
    { requestSizeMax: 1000 },
    { wanted: 1n << 7n },
    { ringFeatures: 1n << 9n },
  ])('RangeError for %o', async (options) => {
    const disk = scriptedDisk({}, FEATURES);
    const loops = new SimulatedLoops(1);
    const outcome = await settled(loops, createBlkDriver(disk.link, { aio: loops.driverAio, ...options }));
    expect(outcome).toMatchObject({ reason: { name: 'RangeError' } });
  });
});
