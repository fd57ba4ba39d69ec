import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { BlkPlan } from './daemon-plan.ts';
import type { Report } from './report.ts';
import { serveSplitDisk } from './split-disk.ts';

const FAILING = new URL('./testing/failing-queue-thread.ts', import.meta.url);
const REPLACING = new URL('./testing/replacing-queue-thread.ts', import.meta.url);
const VANISHING = new URL('./testing/vanishing-queue-thread.ts', import.meta.url);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-queue-threads-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A disk of two queues and two threads; some fail while there is a file `failure`. */
async function withDisk(
  name: string,
  entry: URL,
  body: (disk: {
    readonly socket: string;
    readonly failure: string;
    readonly reasons: () => (string | undefined)[];
    readonly deaths: readonly string[];
  }) => Promise<void>,
): Promise<void> {
  const file = join(folder, name);
  writeFileSync(file, new Uint8Array(1 << 20).fill(1));
  const reports: Report[] = [];
  const deaths: string[] = [];
  const socket = `${file}.sock`;
  const service = await serveSplitDisk(planOf(file), {
    place: { socketPath: socket },
    pollNs: 0,
    loop: 'poll',
    report: (report) => reports.push(report),
    onDeath: (message) => deaths.push(message),
    entry,
  });
  const reasons = (): (string | undefined)[] =>
    reports.flatMap((report) => (report.event === 'disconnected' ? [report.reason] : []));
  try {
    await body({ socket, failure: `${file}.fail`, reasons, deaths });
  } finally {
    await service.close();
  }
}

function planOf(file: string): BlkPlan {
  const size = { queueCount: 2, queueSize: 256, threadCount: 2, size: undefined };
  return { kind: 'blk', backend: 'raw', file, readOnly: false, discard: false, serial: '', ...size };
}

/** Connects, reads the first byte of a sector on each queue, that often or until it cannot any more, and goes. */
async function use(socket: string, roundCount = 1): Promise<readonly number[]> {
  const aio = createNodeAioContext();
  const link = await connectVhostUser({ path: socket, aio, deviceType: VIRTIO_ID_BLOCK });
  try {
    const driver = await createBlkDriver(link, { aio, queueCount: 2 });
    const targets = [new Uint8Array(512), new Uint8Array(512)] as const;
    for (let round = 0; round < roundCount; round += 1) {
      await Promise.all(targets.map(async (target, sector) => await driver.read(sector, target)));
    }
    await driver.close();
    return targets.map(([first]) => first!);
  } finally {
    await link[Symbol.asyncDispose]();
    aio[Symbol.dispose]();
  }
}

/** On a machine that may be busy with others. */
const LIMIT_MS = 30_000;
vi.setConfig({ testTimeout: 2 * LIMIT_MS });

async function soon(check: () => void): Promise<void> {
  await vi.waitFor(check, { timeout: LIMIT_MS });
}

describeWithFfi('a queue thread that fails', () => {
  it('by an exception ends the connection with it, gives all back, and another serves the next', async () => {
    // Whatever a process keeps of its first thread.
    await withDisk('warm', FAILING, async ({ socket }) => void (await use(socket)));
    const before = openFdCount();
    await withDisk('throws', FAILING, async ({ socket, failure, reasons, deaths }) => {
      await use(socket);
      await soon(() => expect(reasons()).toEqual([undefined]));
      const served = openFdCount();
      writeFileSync(failure, '');
      await expect(use(socket, Infinity)).rejects.toThrow();
      await soon(() => expect(reasons()).toHaveLength(2));
      expect(reasons()[1]).toMatch(/^the thread of queue 0 failed: Error: on purpose\n/);
      rmSync(failure);
      await use(socket);
      await soon(() => expect(reasons()).toHaveLength(3));
      expect(reasons()[2]).toBeUndefined();
      await soon(() => expect(openFdCount()).toBe(served));
      expect(deaths).toEqual([]);
    });
    await soon(() => expect(openFdCount()).toBe(before));
  });

  it('before it has begun anew ends that connection, and takes nothing with it', async () => {
    await withDisk('absent', FAILING, async ({ socket, failure, reasons, deaths }) => {
      for (const name of [failure, failure.replace(/fail$/, 'absent')]) {
        writeFileSync(name, '');
        await expect(use(socket, Infinity)).rejects.toThrow();
      }
      await soon(() => expect(reasons()).toHaveLength(2));
      expect(reasons()[1]).toMatch(/^the thread of queue 0 failed: Error: on purpose, from the start\n/);
      for (const name of [failure, failure.replace(/fail$/, 'absent')]) rmSync(name);
      await use(socket);
      expect(deaths).toEqual([]);
    });
  });

  it('by its end from outside ends the connection, and is told as what cannot be mended', async () => {
    await withDisk('vanishes', VANISHING, async ({ socket, reasons, deaths }) => {
      await expect(use(socket, Infinity)).rejects.toThrow();
      await soon(() => expect(deaths).toHaveLength(2));
      expect(deaths[0]).toMatch(/^the thread of queue [01] failed: it was ended from outside$/);
      expect(reasons()[0]).toMatch(/ended from outside/);
    });
  });

  it('and an image that cannot be used is refused before there is one', async () => {
    const missing = { ...planOf(join(folder, 'none')), backend: 'memory' } as const;
    const options = { place: { socketPath: join(folder, 's') }, pollNs: 0, loop: 'poll' } as const;
    const started = serveSplitDisk(missing, { ...options, report: () => {}, onDeath: () => {} });
    await expect(started).rejects.toMatchObject({ name: 'StartError', kind: 'usage' });
  });
});

describeWithFfi('the image that is locked is the one that is served', () => {
  /** All bytes of the image are 1, of what replaces it 2. */
  const replace = (file: string): void => writeFileSync(`${file}.new`, new Uint8Array(1 << 20).fill(2));

  it('by threads that find another at its path when they open it', async () => {
    replace(join(folder, 'replaced'));
    await withDisk('replaced', REPLACING, async ({ socket }) => {
      expect(await use(socket)).toEqual([1, 1]);
    });
    expect(existsSync(join(folder, 'replaced.new'))).toBe(false);
  });

  it('by a thread that starts after another has failed', async () => {
    const file = join(folder, 'later');
    await withDisk('later', FAILING, async ({ socket, failure }) => {
      replace(file);
      renameSync(`${file}.new`, file);
      writeFileSync(failure, '');
      await expect(use(socket, Infinity)).rejects.toThrow();
      rmSync(failure);
      expect(await use(socket)).toEqual([1, 1]);
    });
  });
});
