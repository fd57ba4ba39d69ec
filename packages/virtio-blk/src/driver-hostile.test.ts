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
import type { BlkDriver } from './driver-contract.ts';
import type { BlkDriverOptions } from './driver-options.ts';
import { createBlkDriver } from './driver.ts';
import { COMPLETION_ENODEV, COMPLETION_EPROTO } from './errors.ts';
import { type BlkConfig, encodeConfig } from './protocol.ts';
import { type TestLoop, createTestLoop, runUntilDone } from './testing/loop.ts';
import { ScriptedDisk } from './testing/scripted-disk.ts';

const SECTOR = 512;
const FEATURES = featureBits(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH);

interface Scene {
  readonly driver: BlkDriver;
  readonly disk: ScriptedDisk;
  readonly loop: TestLoop;
  /** `[token, completion]` as reported. */
  readonly ended: [number, number][];
  readonly buffer: number;
}

const goodConfig: Partial<BlkConfig> = { capacity: 1000n, seg_max: 8, blk_size: 512 };

function scriptedDisk(config: Partial<BlkConfig>, features: FeatureBits): ScriptedDisk {
  return new ScriptedDisk({ features, config: encodeConfig({ ...goodConfig, ...config }) });
}

/** Keeps a rejection from being unhandled until it is looked at. */
async function outcomeOf<T>(work: Promise<T>): Promise<PromiseSettledResult<T>> {
  return (await Promise.allSettled([work]))[0];
}

async function settled<T>(loop: TestLoop, work: Promise<T>): Promise<PromiseSettledResult<T>> {
  return await runUntilDone(loop, outcomeOf(work));
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
  const loop = createTestLoop();
  const made = await settled(loop, createBlkDriver(disk.link, { aio: loop.aio, ...options }));
  if (made.status === 'rejected') throw made.reason;
  const driver = made.value;
  const ended: [number, number][] = [];
  driver.onCompletion((token, completion) => ended.push([token, completion]));
  const buffer = driver.allocateBuffer(16 * SECTOR);
  await body({ driver, disk, loop, ended, buffer });
  expect((await settled(loop, driver.close())).status).toBe('fulfilled');
  expect([...disk.leaks(), ...loop.aio.leaks()]).toEqual([]);
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
      'more queues than the transport has',
      { num_queues: 2 },
      FEATURES | featureBits(VIRTIO_BLK_F_MQ),
      'num_queues',
    ],
    [
      'segments of less than a sector',
      { size_max: 511 },
      FEATURES | featureBits(VIRTIO_BLK_F_SIZE_MAX),
      'size_max',
    ],
  ];
  it.each(cases)('%s', async (_what, config, features, field) => {
    const disk = scriptedDisk(config, features);
    const loop = createTestLoop();
    const outcome = await settled(loop, createBlkDriver(disk.link, { aio: loop.aio }));
    expect(outcome).toMatchObject({ reason: { name: 'BlkError', code: 'EPROTO' } });
    expect((outcome as PromiseRejectedResult).reason.message).toContain(field);
    expect(disk.resetCount).toBe(2);
    expect([...disk.leaks(), ...loop.aio.leaks()]).toEqual([]);
  });

  it('a device that is no disk, or whose queue holds no request', async () => {
    const loop = createTestLoop();
    const config = encodeConfig(goodConfig);
    const net = new ScriptedDisk({ features: FEATURES, config, deviceType: VIRTIO_ID_NET });
    expect(await settled(loop, createBlkDriver(net.link, { aio: loop.aio }))).toMatchObject({
      reason: { code: 'EPROTO' },
    });
    const tiny = new ScriptedDisk({ features: FEATURES, config, queueSizeMax: 2 });
    expect(await settled(loop, createBlkDriver(tiny.link, { aio: loop.aio }))).toMatchObject({
      reason: { code: 'EPROTO' },
    });
    expect([...net.leaks(), ...tiny.leaks(), ...loop.aio.leaks()]).toEqual([]);
  });

  it('limits of 0 mean one segment and any number of sectors', async () => {
    await withScript(
      async ({ driver, disk, loop }) => {
        expect(driver.transferSizeMax).toBe(1024);
        const discarded = outcomeOf(driver.discard(0, 1000));
        await loop.settle();
        const [request, ...more] = disk.take();
        expect([request!.type, more]).toEqual([VIRTIO_BLK_T_DISCARD, []]);
        disk.use(request!, VIRTIO_BLK_S_OK);
        disk.call();
        await loop.settle();
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
    await withScript(async ({ driver, disk, loop, ended, buffer }) => {
      driver.submitRead(5, buffer, SECTOR, 1);
      driver.kick();
      const [request] = disk.take();
      expect([request!.type, request!.sector]).toEqual([VIRTIO_BLK_T_IN, 5n]);
      disk.use(request!, status);
      disk.call();
      expect(ended).toEqual([[1, COMPLETION_EPROTO]]);
      const read = outcomeOf(driver.read(0, new Uint8Array(SECTOR)));
      await loop.settle();
      disk.use(disk.take()[0]!, VIRTIO_BLK_S_OK);
      disk.call();
      expect((await read).status).toBe('fulfilled');
    });
  });

  it('case 32: a used length beyond or short of the buffers harms nothing; short ones are counted', async () => {
    await withScript(async ({ driver, disk, ended, buffer }) => {
      for (const [token, usedSize] of [0, 1, 513, 0xffff_ffff].entries()) {
        driver.submitRead(0, buffer, SECTOR, token);
        driver.kick();
        disk.use(disk.take()[0]!, VIRTIO_BLK_S_OK, usedSize);
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
      const [request] = disk.take();
      const at = disk.at(request!.descriptors[0]!.address);
      disk.memory.u8.fill(0xff, at, at + 16);
      disk.use(request!, VIRTIO_BLK_S_OK);
      disk.call();
      driver.submitRead(8, buffer, SECTOR, 5);
      driver.kick();
      expect(disk.take()[0]).toMatchObject({ type: VIRTIO_BLK_T_IN, sector: 8n });
      expect(ended).toEqual([[4, VIRTIO_BLK_S_OK]]);
    });
  });

  it.each([
    ['case 30: a used id beyond the queue', 999],
    ['case 31: a used id that is not outstanding', 15],
  ])('%s breaks the queue: everything in flight ends, nothing is accepted', async (_what, id) => {
    await withScript(async ({ driver, disk, loop, ended, buffer }) => {
      driver.submitRead(0, buffer, SECTOR, 1);
      driver.submitRead(0, buffer, SECTOR, 2);
      const read = outcomeOf(driver.read(0, new Uint8Array(SECTOR)));
      await loop.settle();
      disk.rings[0]!.use(id, 0);
      disk.call();
      await loop.settle();
      expect(ended).toEqual([
        [1, COMPLETION_ENODEV],
        [2, COMPLETION_ENODEV],
      ]);
      expect(await read).toMatchObject({ reason: { code: 'ENODEV' } });
      expect(driver.failure).toMatch(/used/i);
    });
  });

  it('§2.1.2 DEVICE_NEEDS_RESET ends everything in flight with that reason', async () => {
    await withScript(async ({ driver, disk, loop, ended, buffer }) => {
      driver.submitRead(0, buffer, SECTOR, 9);
      driver.kick();
      disk.needReset();
      await loop.settle();
      expect(ended).toEqual([[9, COMPLETION_ENODEV]]);
      expect(driver.failure).toContain('needs reset');
    });
  });

  it('a device that vanishes is not asked for a reset, and all memory is taken back', async () => {
    await withScript(async ({ driver, disk, loop, ended, buffer }) => {
      driver.submitRead(0, buffer, SECTOR, 9);
      driver.kick();
      disk.vanish('its domain died');
      await loop.settle();
      expect(ended).toEqual([[9, COMPLETION_ENODEV]]);
      expect(driver.failure).toContain('its domain died');
    });
  });

  it('a device that does not confirm the reset keeps the memory: none of it is reused', async () => {
    const disk = scriptedDisk({}, FEATURES);
    const loop = createTestLoop();
    const made = await settled(loop, createBlkDriver(disk.link, { aio: loop.aio, timeoutMs: 1000 }));
    const driver = (made as PromiseFulfilledResult<BlkDriver>).value;
    const buffer = driver.allocateBuffer(SECTOR);
    driver.submitRead(0, buffer, SECTOR, 0);
    driver.kick();
    const before = disk.leaks();
    disk.isDeaf = true;
    const closing = outcomeOf(driver.close());
    await loop.settle();
    await loop.advance(1001);
    expect(await closing).toMatchObject({ reason: { code: 'ETIMEDOUT' } });
    expect(disk.leaks()).toEqual(before);
    expect(loop.aio.leaks()).toEqual([]);
  });

  it('follows a capacity that changes, unless it makes no sense', async () => {
    await withScript(async ({ driver, disk, loop }) => {
      disk.changeConfig(encodeConfig({ ...goodConfig, capacity: 5000n }));
      await loop.settle();
      expect(driver.capacitySectors).toBe(5000);
      disk.changeConfig(encodeConfig({ ...goodConfig, capacity: 1n << 60n }));
      await loop.settle();
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
    { wanted: 1n << 17n },
  ])('RangeError for %o', async (options) => {
    const disk = scriptedDisk({}, FEATURES);
    const loop = createTestLoop();
    const outcome = await settled(loop, createBlkDriver(disk.link, { aio: loop.aio, ...options }));
    expect(outcome).toMatchObject({ reason: { name: 'RangeError' } });
  });
});
