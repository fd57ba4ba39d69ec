import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAioContext } from '@virtlab/aio';
import { closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { TransportError } from '@virtlab/virtio';
import { createMemoryBench } from '@virtlab/virtio/conformance';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { StorageDaemon, describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { describe, expect, it } from 'vitest';
import { createCompletions } from './completions.ts';
import type { Blkio } from './contract.ts';
import { BlkioError, type BlkioErrorCode } from './errors.ts';
import { openBlkio } from './open.ts';
import { type VhostUserRig, connectRig, serveRig } from './testing/vhost-user-rig.ts';

const CAPACITY = 1 << 20;
const PAGE = 4096;

const CONTENTS = new Uint8Array(CAPACITY);
for (let at = 0; at < CAPACITY; at += 1) CONTENTS[at] = at ^ (at >> 9);

function contents(): Uint8Array {
  return CONTENTS.slice();
}

/** Reads the disk's first half into memory of this test, and looks at it through a mapping of its own. */
async function readIntoOwnMemory(disk: Blkio): Promise<void> {
  const size = CAPACITY / 2;
  const fd = memfdCreate('caller', size + 2 * PAGE);
  const own = mapShared(fd, size + 2 * PAGE);
  const bytes = new Uint8Array(own.buffer);
  bytes.fill(0xee);
  const region = await disk.mapRegion(fd, PAGE, size);
  closeFd(fd);
  expect([region.offset, region.size, region.bytes.length, region.bytes[0]]).toEqual([0, size, size, 0xee]);
  const { promises } = disk.queues[0]!;
  for (let at = 0; at < size; at += 65_536) await promises.read(at, region, at, 65_536);
  expect(Buffer.compare(bytes.subarray(PAGE, PAGE + size), contents().subarray(0, size))).toBe(0);
  expect([bytes[0], bytes[PAGE - 1], bytes[PAGE + size]]).toEqual([0xee, 0xee, 0xee]);
  // And out of it: what the test writes through its mapping goes to the disk.
  bytes.fill(0x11, PAGE, 2 * PAGE);
  await promises.write(CAPACITY - PAGE, region, 0, PAGE);
  await promises.read(CAPACITY - PAGE, region, PAGE, PAGE);
  expect(bytes.subarray(2 * PAGE, 3 * PAGE).every((byte) => byte === 0x11)).toBe(true);
  const { memory } = region;
  region[Symbol.dispose]();
  expect([memory.u8[0], bytes[PAGE]]).toEqual([0, 0x11]);
  expect(() => disk.queues[0]!.read(0, region, 0, PAGE, 0)).toThrow(TypeError);
  own.revoke();
}

/** An error of this package's own, whose cause is the transport's. */
function isRefusal(code: BlkioErrorCode, pattern: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof BlkioError &&
    error.code === code &&
    error.message.startsWith(`${code}: `) &&
    !error.message.startsWith(`${code}: ${code}`) &&
    pattern.test(error.message) &&
    error.cause instanceof TransportError;
}

async function withDisk(
  rig: VhostUserRig,
  body: (disk: Blkio, rig: VhostUserRig) => Promise<void>,
): Promise<void> {
  const disk = await openBlkio(rig.link, { aio: rig.aio });
  await body(disk, rig);
  await disk.close();
  expect(await rig.close()).toEqual([]);
}

const WAYS: readonly (readonly [string, readonly VhostUserProtocolFeature[]])[] = [
  ['memory slots', []],
  ['the whole table anew', ['CONFIGURE_MEM_SLOTS']],
  ['the whole table anew, nothing acknowledged', ['CONFIGURE_MEM_SLOTS', 'REPLY_ACK']],
];

describeWithFfi('mapRegion on our daemon', () => {
  const serve = (
    withheldProtocolFeatures: readonly VhostUserProtocolFeature[] = [],
  ): Promise<VhostUserRig> => {
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: contents() }) });
    return serveRig(device, {}, { withheldProtocolFeatures });
  };

  it.each(WAYS)('reads and writes the caller’s own memory, by %s', async (_name, withheld) => {
    await withDisk(await serve(withheld), async (disk) => {
      await readIntoOwnMemory(disk);
      await readIntoOwnMemory(disk);
      expect(disk.failure).toBeUndefined();
    });
  });

  it.each(WAYS)('comes and goes beside requests in flight, by %s', async (_name, withheld) => {
    await withDisk(await serve(withheld), async (disk) => {
      const [queue] = disk.queues;
      const own = disk.allocateRegion(64 * PAGE);
      let reads = 0;
      const progress = { isOver: false };
      const reading = (async () => {
        while (!progress.isOver) {
          await Promise.all(
            Array.from({ length: 16 }, (_, at) => queue!.promises.read(at * PAGE, own, at * PAGE, PAGE)),
          );
          reads += 16;
        }
      })();
      for (let round = 0; round < 3; round += 1) await readIntoOwnMemory(disk);
      progress.isOver = true;
      await reading;
      expect(reads).toBeGreaterThan(0);
      expect(Buffer.compare(own.bytes.subarray(0, 16 * PAGE), contents().subarray(0, 16 * PAGE))).toBe(0);
    });
  });

  it('as many as the device has slots, and room again when one went', async () => {
    await withDisk(await serve(['CONFIGURE_MEM_SLOTS']), async (disk) => {
      expect(disk.limits.mappedRegionCountMax).toBe(7);
      const fd = memfdCreate('caller', 8 * PAGE);
      const regions = [];
      for (let at = 0; at < 7; at += 1) regions.push(await disk.mapRegion(fd, at * PAGE, PAGE));
      await expect(disk.mapRegion(fd, 0, PAGE)).rejects.toSatisfy(
        isRefusal('ENOSPC', /memory slots are taken/),
      );
      for (const [at, region] of regions.entries())
        await disk.queues[0]!.promises.read(at * PAGE, region, 0, PAGE);
      const own = mapShared(fd, 8 * PAGE);
      const read = new Uint8Array(own.buffer).subarray(0, 7 * PAGE);
      expect(Buffer.compare(read, contents().subarray(0, 7 * PAGE))).toBe(0);
      regions[3]![Symbol.dispose]();
      await expect
        .poll(() =>
          disk.mapRegion(fd, 0, PAGE).then(
            () => true,
            () => false,
          ),
        )
        .toBe(true);
      closeFd(fd);
      own.revoke();
    });
  });

  it('memory that can shrink, is shorter, or no page, is refused by name', async () => {
    await withDisk(await serve(), async (disk) => {
      const open = memfdCreate('open', PAGE, { seal: false });
      await expect(disk.mapRegion(open, 0, PAGE)).rejects.toSatisfy(isRefusal('EINVAL', /F_SEAL_SHRINK/));
      closeFd(open);
      const fd = memfdCreate('short', PAGE);
      await expect(disk.mapRegion(fd, 0, 2 * PAGE)).rejects.toSatisfy(isRefusal('EINVAL', /beyond the end/));
      await expect(disk.mapRegion(fd, 8, PAGE)).rejects.toThrow(RangeError);
      await expect(disk.mapRegion(fd, 0, 512)).rejects.toThrow(RangeError);
      await expect(disk.mapRegion(fd, 0, 0)).rejects.toThrow(RangeError);
      closeFd(fd);
      await expect(disk.mapRegion(fd, 0, PAGE)).rejects.toSatisfy(isRefusal('EINVAL', /EBADF/));
    });
  });

  it('a disk that was closed maps and allocates nothing: ENODEV; and no disk allocates nothing', async () => {
    await withDisk(await serve(), async (disk) => {
      for (const size of [0, -1]) expect(() => disk.allocateRegion(size)).toThrow(RangeError);
      await disk.close();
      await expect(disk.mapRegion(0, 0, PAGE)).rejects.toMatchObject({ name: 'BlkioError', code: 'ENODEV' });
      expect(() => disk.allocateRegion(PAGE)).toThrow(BlkioError);
    });
  });
});

describeWithStorageDaemon('mapRegion on qemu-storage-daemon', () => {
  const onDisk = async (body: (daemon: StorageDaemon, file: string) => Promise<void>): Promise<void> => {
    const fd = memfdCreate('disk', CAPACITY, { seal: false });
    const own = mapShared(fd, CAPACITY, { allowShrink: true });
    new Uint8Array(own.buffer).set(contents());
    const file = `/proc/${process.pid}/fd/${fd}`;
    const directory = mkdtempSync(join(tmpdir(), 'virtlab-blkio-'));
    const daemon = await StorageDaemon.startOnFile(file, { path: join(directory, 'blk.sock') });
    await body(daemon, file);
    own.revoke();
    closeFd(fd);
    rmSync(directory, { recursive: true });
  };

  it('reads and writes the caller’s own memory, without a copy', async () => {
    await onDisk(async (daemon) => {
      await withDisk(await connectRig({ path: daemon.path }), async (disk) => {
        await readIntoOwnMemory(disk);
        await readIntoOwnMemory(disk);
        expect(disk.failure).toBeUndefined();
      });
      await daemon.kill();
    });
  });

  it('polls in the thread: requests to the caller’s memory without a call', async () => {
    await onDisk(async (daemon) => {
      await withDisk(await connectRig({ path: daemon.path }), async (disk) => {
        const [queue] = disk.queues;
        const fd = memfdCreate('caller', 32 * PAGE);
        const region = await disk.mapRegion(fd, 0, 32 * PAGE);
        closeFd(fd);
        const done = createCompletions(32);
        const batch = async (): Promise<void> => {
          region.bytes.fill(0);
          for (let token = 0; token < 32; token += 1)
            queue!.read(token * PAGE, region, token * PAGE, PAGE, token);
          expect(queue!.pollUntil(done, 32, 5000)).toBe(32);
          expect([...done.results]).toEqual(Array.from({ length: 32 }, () => 0));
          expect(Buffer.compare(region.bytes, contents().subarray(0, 32 * PAGE))).toBe(0);
          await new Promise((resolve) => void setTimeout(resolve));
        };
        // A device of libvhost-user calls once for nothing when it is started, and for its first completion.
        await batch();
        const { calls } = queue!.statistics;
        for (let round = 0; round < 5; round += 1) await batch();
        expect(queue!.statistics.calls).toBe(calls);
      });
      await daemon.kill();
    });
  });

  it('regions are there again when another process has taken over', async () => {
    await onDisk(async (daemon, file) => {
      const rig = await connectRig({ path: daemon.path, reconnect: { withinMs: 5000, everyMs: 5 } });
      await withDisk(rig, async (disk, { link }) => {
        const fd = memfdCreate('caller', 16 * PAGE);
        const region = await disk.mapRegion(fd, 0, 16 * PAGE);
        closeFd(fd);
        await disk.queues[0]!.promises.read(0, region, 0, PAGE);
        await daemon.kill();
        const reading = disk.queues[0]!.promises.read(PAGE, region, PAGE, 8 * PAGE);
        const other = await StorageDaemon.startOnFile(file, { path: daemon.path });
        await reading;
        expect(Buffer.compare(region.bytes.subarray(0, 9 * PAGE), contents().subarray(0, 9 * PAGE))).toBe(0);
        await expect.poll(() => link.transport.reconnectCount).toBe(1);
        await disk.close();
        await link[Symbol.asyncDispose]();
        await other.kill();
      });
    });
  });
});

describe('mapRegion on a transport that cannot', () => {
  it('is ENOTSUP', async () => {
    const aio = createAioContext();
    const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: CAPACITY }) });
    const bench = createMemoryBench({ device, loops: { driverAio: aio, deviceAio: aio, settle } });
    const disk = await openBlkio(bench.link, { aio });
    expect(disk.limits.mappedRegionCountMax).toBe(0);
    await expect(disk.mapRegion(0, 0, PAGE)).rejects.toMatchObject({ code: 'ENOTSUP' });
    await disk.close();
    expect(await bench.close()).toEqual([]);
  });
});
