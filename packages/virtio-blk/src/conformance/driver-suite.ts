import { expect, it, type TestContext } from 'vitest';
import { VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET, featureBit, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_S_OK,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { type AioContext, createPrng } from '@virtlab/aio';
import { type DriverLink, RING_FEATURES } from '@virtlab/virtio';
import type { BlkDriver } from '../driver-contract.ts';
import { type BlkDriverOptions } from '../driver-options.ts';
import { createBlkDriver } from '../driver.ts';
import { COMPLETION_ECANCELED } from '../errors.ts';

const SECTOR = VIRTIO_BLK_SECTOR_SIZE;

/** A writable disk, and its driver's end. */
export interface DiskUnderTest {
  readonly link: DriverLink;
  /** On the platform's own time: promises of the driver need nobody to let them settle. */
  readonly driverAio: AioContext;
  /** What is on the disk, as whoever keeps it sees it. Absent where nobody can look. */
  contents?(): Uint8Array;
  /** Ends the link and names what is still held. */
  close(): Promise<readonly string[]>;
}

export interface BlkDriverSetup {
  readonly name: string;
  /** At least 256. */
  readonly capacitySectors: number;
  /** What `getId` gives. Default: not looked at. */
  readonly serial?: string;
  /** Queues to be used, as many as the disk has. Default 1. */
  readonly queueCount?: number;
  /** Seed of the random requests. Default 1. */
  readonly seed?: number;
  create(): Promise<DiskUnderTest>;
}

interface Scene {
  readonly driver: BlkDriver;
  readonly disk: DiskUnderTest;
  readonly test: TestContext;
}

const VARIANTS: readonly (readonly [string, bigint])[] = [
  ['plain', 0n],
  ['indirect descriptors', featureBit(VIRTIO_RING_F_INDIRECT_DESC)],
  ['event index', featureBit(VIRTIO_RING_F_EVENT_IDX)],
  ['indirect descriptors and event index', RING_FEATURES],
  ['packed', featureBit(VIRTIO_F_RING_PACKED)],
  ['packed, indirect descriptors and event index', featureBit(VIRTIO_F_RING_PACKED) | RING_FEATURES],
];

export function describeDriver(setup: BlkDriverSetup): void {
  const scene = (
    name: string,
    body: (scene: Scene) => Promise<void>,
    options: Partial<BlkDriverOptions> = {},
  ): void => {
    it(name, async (test) => {
      expect(await play(setup, options, test, body), 'what is still held after close').toEqual([]);
    });
  };
  describeContents(setup, scene);
  describeCommands(setup, scene);
  describeQueues(setup, scene);
}

type Stage = (
  name: string,
  body: (scene: Scene) => Promise<void>,
  options?: Partial<BlkDriverOptions>,
) => void;

function describeContents(setup: BlkDriverSetup, scene: Stage): void {
  const { capacitySectors, queueCount = 1, seed = 1 } = setup;
  for (const [name, ringFeatures] of VARIANTS) {
    scene(
      `§5.2.6 what is written comes back, in requests of any size, ${name}`,
      async ({ driver, disk, test }) => {
        if (!isNegotiated(driver, ringFeatures)) test.skip('the device does not offer packed rings');
        for (const count of [1, 2, 7, 8, 9, 64, 129, 200]) {
          const sector = (count * 5) % (capacitySectors - count);
          const source = bytesOf(count, count);
          await driver.write(sector, source);
          await expectSectors(driver, disk, sector, source);
        }
        expect(driver.statistics).toMatchObject({ failures: 0, shortCompletions: 0 });
      },
      { ringFeatures, queueCount },
    );

    scene(
      `a disk is a disk after random requests, many at a time, ${name}, seed ${seed}`,
      async ({ driver, disk, test }) => {
        if (!isNegotiated(driver, ringFeatures)) test.skip('the device does not offer packed rings');
        await playRandomly(driver, disk, capacitySectors, seed);
      },
      { ringFeatures, queueCount, bounceSize: 4096, polling: false },
    );
  }

  scene(
    'rings of four entries do, and requests wait their turn',
    async ({ driver, disk }) => {
      const source = bytesOf(64, 3);
      await Promise.all([...parts(source, 1)].map(([at, bytes]) => driver.write(at, bytes)));
      await expectSectors(driver, disk, 0, source);
    },
    { queueSize: 4 },
  );
}

function describeCommands(setup: BlkDriverSetup, scene: Stage): void {
  const { capacitySectors, serial } = setup;
  scene('§5.2.4 capacity and block size', async ({ driver }) => {
    expect(driver.capacitySectors).toBe(capacitySectors);
    expect(driver.readOnly).toBe(false);
    expect(driver.blockSize % SECTOR).toBe(0);
  });

  scene('§5.2.6 the device tells its id', async ({ driver, test }) => {
    if (serial === undefined) test.skip('setup: no serial');
    expect(await driver.getId()).toBe(serial);
  });

  scene('§5.2.6.2 a flush ends when what was written is safe', async ({ driver, disk }) => {
    const source = bytesOf(16, 9);
    await driver.write(40, source);
    await driver.flush();
    await expectSectors(driver, disk, 40, source);
    await Promise.all([driver.flush(), driver.write(0, source), driver.flush()]);
  });

  scene('§5.2.6 zeroes written are zeroes read, unmapped or not', async ({ driver, disk, test }) => {
    if (!hasFeature(driver.features, VIRTIO_BLK_F_WRITE_ZEROES)) test.skip('not offered');
    for (const unmap of [false, true]) {
      await driver.write(32, bytesOf(64, 7));
      await driver.writeZeroes(40, 33, { unmap });
      const expected = bytesOf(64, 7).fill(0, 8 * SECTOR, 41 * SECTOR);
      await expectSectors(driver, disk, 32, expected);
    }
  });

  scene('§5.2.6 a discard takes what it was told to and no more', async ({ driver, disk, test }) => {
    if (!hasFeature(driver.features, VIRTIO_BLK_F_DISCARD)) test.skip('not offered');
    await driver.write(0, bytesOf(128, 5));
    await driver.discard(32, 64);
    await driver.discard(0, 0);
    await expectSectors(driver, disk, 0, bytesOf(128, 5).subarray(0, 32 * SECTOR));
    await expectSectors(driver, disk, 96, bytesOf(128, 5).subarray(96 * SECTOR));
  });

  scene('§5.2.5 the cache mode is what it is switched to', async ({ driver, disk, test }) => {
    if (!hasFeature(driver.features, VIRTIO_BLK_F_CONFIG_WCE)) test.skip('not offered');
    for (const writeback of [false, true]) {
      expect(await driver.setWriteback(writeback)).toBe(writeback);
      await driver.write(8, bytesOf(4, writeback ? 1 : 2));
      await expectSectors(driver, disk, 8, bytesOf(4, writeback ? 1 : 2));
    }
  });

  scene('outside of the disk nothing is asked of the device', async ({ driver }) => {
    await expect(driver.read(capacitySectors, new Uint8Array(SECTOR))).rejects.toMatchObject({
      code: 'ERANGE',
    });
    await expect(driver.write(capacitySectors - 1, bytesOf(2, 0))).rejects.toMatchObject({ code: 'ERANGE' });
    expect(driver.statistics.requests).toBe(0);
  });
}

function describeQueues(setup: BlkDriverSetup, scene: Stage): void {
  const { queueCount = 1 } = setup;
  scene(
    'a batch on the data plane is one kick a queue, and each request is told once',
    async ({ driver }) => {
      const count = 32;
      const buffer = driver.allocateBuffer(count * SECTOR);
      driver.memory.u8.fill(0x3c, buffer, buffer + count * SECTOR);
      const told = await batch(driver, count, (token) =>
        driver.submitWrite(token, buffer + token * SECTOR, SECTOR, token),
      );
      expect(told.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, token) => token));
      expect(driver.statistics.kicks).toBeLessThanOrEqual(queueCount);
      driver.memory.u8.fill(0, buffer, buffer + count * SECTOR);
      await batch(driver, count, (token) => driver.submitRead(token, buffer + token * SECTOR, SECTOR, token));
      expect(driver.memory.u8.subarray(buffer, buffer + count * SECTOR).every((b) => b === 0x3c)).toBe(true);
      driver.freeBuffer(buffer);
    },
    { queueCount, polling: false },
  );

  scene(
    '§5.2.2 every queue is used, and a sector is the same through each of them',
    async ({ driver }) => {
      const buffer = driver.allocateBuffer(SECTOR);
      for (let queue = 0; queue < queueCount; queue += 1) {
        driver.memory.u8.fill(queue + 1, buffer, buffer + SECTOR);
        await batch(driver, 1, (token) => driver.submitWrite(9, buffer, SECTOR, token, queue));
        for (let other = 0; other < queueCount; other += 1) {
          driver.memory.u8.fill(0, buffer, buffer + SECTOR);
          await batch(driver, 1, (token) => driver.submitRead(9, buffer, SECTOR, token, other));
          expect(driver.memory.u8.subarray(buffer, buffer + SECTOR).every((b) => b === queue + 1)).toBe(true);
        }
      }
      expect(driver.queueStatistics.map(({ requests }) => requests > 0)).not.toContain(false);
      driver.freeBuffer(buffer);
    },
    { queueCount },
  );

  scene(
    '§2.6.1 a queue that was reset among requests works again',
    async ({ driver, disk, test }) => {
      if (!hasFeature(driver.features, VIRTIO_F_RING_RESET)) test.skip('not offered');
      for (let round = 0; round < 4; round += 1) {
        const reads = Array.from({ length: 4 * round }, () => driver.read(0, new Uint8Array(4 * SECTOR)));
        const ending = Promise.allSettled(reads);
        await driver.resetQueue(round % queueCount);
        await ending;
        const source = bytesOf(8, round);
        await driver.write(16, source);
        await expectSectors(driver, disk, 16, source);
      }
    },
    { queueCount },
  );

  scene('a driver that is closed among requests ends them all', async ({ driver }) => {
    const reads = Array.from({ length: 40 }, () => driver.read(0, new Uint8Array(32 * SECTOR)));
    const ending = Promise.allSettled(reads);
    await driver.close();
    const outcomes = await ending;
    const reasons = outcomes.flatMap((end) => (end.status === 'rejected' ? [String(end.reason.code)] : []));
    expect(reasons.filter((code) => code !== 'ENODEV')).toEqual([]);
  });
}

async function play(
  setup: BlkDriverSetup,
  options: Partial<BlkDriverOptions>,
  test: TestContext,
  body: (scene: Scene) => Promise<void>,
): Promise<readonly string[]> {
  const disk = await setup.create();
  try {
    const driver = await createBlkDriver(disk.link, { aio: disk.driverAio, ...options });
    try {
      await body({ driver, disk, test });
    } finally {
      await driver.close();
    }
  } catch (error) {
    await disk.close().catch(() => undefined);
    throw error;
  }
  return await disk.close();
}

/** Whether the ring has the format that was asked for; the rest is the device's choice. */
function isNegotiated(driver: BlkDriver, ringFeatures: bigint): boolean {
  return hasFeature(driver.features, VIRTIO_F_RING_PACKED) || !hasFeature(ringFeatures, VIRTIO_F_RING_PACKED);
}

/** Bytes that tell sectors and places apart. */
function bytesOf(sectorCount: number, fill: number): Uint8Array {
  return Uint8Array.from(
    { length: sectorCount * SECTOR },
    (_, at) => (fill * 37 + at + (at >> 9) * 3) & 0xff,
  );
}

function* parts(source: Uint8Array, sectorCount: number): Generator<readonly [number, Uint8Array]> {
  for (let at = 0; at * SECTOR < source.length; at += sectorCount) {
    yield [at, source.subarray(at * SECTOR, (at + sectorCount) * SECTOR)];
  }
}

async function expectSectors(
  driver: BlkDriver,
  disk: DiskUnderTest,
  sector: number,
  expected: Uint8Array,
): Promise<void> {
  const target = new Uint8Array(expected.length);
  await driver.read(sector, target);
  expect(Buffer.compare(target, expected), `what is read from sector ${sector}`).toBe(0);
  const kept = disk.contents?.().subarray(sector * SECTOR, sector * SECTOR + expected.length);
  if (kept !== undefined) expect(Buffer.compare(kept, expected), `what is kept at sector ${sector}`).toBe(0);
}

/** Resolves to the tokens in the order of their completions. */
async function batch(driver: BlkDriver, count: number, submit: (token: number) => number): Promise<number[]> {
  const told: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const codes = new Set<number>();
  driver.onCompletion((token, completion) => {
    told.push(token);
    codes.add(completion);
    if (told.length === count) resolve();
  });
  for (let token = 0; token < count; token += 1) expect(submit(token)).toBe(0);
  driver.kick();
  await promise;
  driver.onCompletion(undefined);
  expect([...codes].filter((code) => code !== VIRTIO_BLK_S_OK && code !== COMPLETION_ECANCELED)).toEqual([]);
  return told;
}

const REQUEST_COUNT = 60;
const CONCURRENCY = 6;

/** Each worker keeps to its own part of the disk, so that what a read must give is known. */
async function playRandomly(
  driver: BlkDriver,
  disk: DiskUnderTest,
  capacitySectors: number,
  seed: number,
): Promise<void> {
  const share = Math.floor(Math.min(capacitySectors, 4096) / CONCURRENCY);
  const models = await Promise.all(
    Array.from({ length: CONCURRENCY }, async (_, worker) => {
      const prng = createPrng(seed * CONCURRENCY + worker);
      const model = new Uint8Array(share * SECTOR);
      await driver.read(worker * share, model);
      for (let step = 0; step < REQUEST_COUNT / CONCURRENCY; step += 1) {
        const at = prng.below(share);
        const count = 1 + prng.below(Math.min(24, share - at));
        const part = model.subarray(at * SECTOR, (at + count) * SECTOR);
        if (prng.below(2) === 0) {
          part.set(bytesOf(count, prng.below(256)));
          await driver.write(worker * share + at, part);
        } else {
          await expectSectors(driver, disk, worker * share + at, part);
        }
      }
      return model;
    }),
  );
  for (const [worker, model] of models.entries()) await expectSectors(driver, disk, worker * share, model);
}
