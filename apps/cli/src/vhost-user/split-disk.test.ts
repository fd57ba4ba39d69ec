import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { UnixStream } from '@virtlab/linux';
import { type VhostUserLink, connectVhostUser } from '@virtlab/vhost-user';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Run, finish, lines, startVirtlab } from '../testing/virtlab.ts';

const SECTOR = 512;
const QUEUE_COUNT = 3;
const THREADS = ['--num-queues', `${QUEUE_COUNT}`, '--threads', '2', '--json'];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-split-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);

interface Daemon {
  readonly socket: string;
  readonly child: ChildProcess;
  readonly ended: Promise<Run>;
  readonly listening: unknown;
}

async function start(...args: readonly string[]): Promise<Daemon> {
  const socket = fresh('s');
  const child = startVirtlab(['vhost-user-blk', '-s', socket, ...THREADS, ...args]);
  const ended = finish(child);
  const [line] = await lines(child, 1);
  if (line === undefined) throw new Error(JSON.stringify(await ended));
  return { socket, child, ended, listening: JSON.parse(line) };
}

async function stop({ child, ended }: Daemon): Promise<Record<string, unknown>[]> {
  child.kill('SIGTERM');
  const { code, stdout, stderr } = await ended;
  expect([code, stderr]).toEqual([143, 'virtlab: shutting down\n']);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** proc(5), /proc/pid/task/tid/comm. */
function threadNames({ child }: Daemon): string[] {
  const tasks = `/proc/${child.pid}/task`;
  return readdirSync(tasks)
    .map((task) => readFileSync(join(tasks, task, 'comm'), 'utf8').trim())
    .toSorted();
}

interface Drive {
  readonly aio: NodeAioContext;
  readonly link: VhostUserLink;
  readonly driver: BlkDriver;
}

async function drive(socket: string, body: (drive: Drive) => Promise<void>): Promise<void> {
  const aio = createNodeAioContext();
  const link = await connectVhostUser({ path: socket, aio, deviceType: VIRTIO_ID_BLOCK });
  try {
    const driver = await createBlkDriver(link, { aio, queueCount: QUEUE_COUNT });
    await body({ aio, link, driver });
    await driver.close();
  } finally {
    await link[Symbol.asyncDispose]();
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
  }
}

/** One request of a sector on a queue of the caller's choice. */
async function request(driver: BlkDriver, queue: number, sector: number, fill?: number): Promise<Uint8Array> {
  const offset = driver.allocateBuffer(SECTOR);
  const bytes = driver.memory.u8.subarray(offset, offset + SECTOR);
  if (fill !== undefined) bytes.fill(fill);
  const { promise, resolve } = Promise.withResolvers<number>();
  driver.onCompletion((_, completion) => resolve(completion));
  const submit = fill === undefined ? driver.submitRead : driver.submitWrite;
  expect(submit.call(driver, sector, offset, SECTOR, 0, queue)).toBe(0);
  driver.kick();
  expect(await promise).toBe(VIRTIO_BLK_S_OK);
  driver.onCompletion(undefined);
  const read = bytes.slice();
  driver.freeBuffer(offset);
  return read;
}

describe('a disk whose queues are spread over threads', { timeout: 60_000 }, () => {
  it('in memory: what one queue wrote, the others read, and requests are counted over all', async () => {
    const daemon = await start('--backend', 'memory', '--size', '1M');
    expect(daemon.listening).toMatchObject({ event: 'listening', threads: 2 });
    expect(threadNames(daemon).filter((name) => name.startsWith('queue'))).toEqual(['queue 0, 2', 'queue 1']);
    await drive(daemon.socket, async ({ driver }) => {
      for (let writer = 0; writer < QUEUE_COUNT; writer += 1) {
        await request(driver, writer, writer, writer + 1);
        for (let reader = 0; reader < QUEUE_COUNT; reader += 1) {
          expect((await request(driver, reader, writer))[SECTOR - 1]).toBe(writer + 1);
        }
      }
      expect(driver.queueStatistics.map(({ completions }) => completions)).toEqual([4, 4, 4]);
    });
    const reports = await stop(daemon);
    const events = reports.map(({ event, queue, state }) => [event, queue, state].filter(Boolean).join(' '));
    expect(events.filter((event) => event.endsWith('started'))).toHaveLength(QUEUE_COUNT);
    expect(events.filter((event) => event.startsWith('features'))).toHaveLength(1);
    expect(reports.find(({ event }) => event === 'disconnected')).toMatchObject({ requests: 12 });
    expect(reports.at(-1)).toEqual({ event: 'closed' });
  });

  it('in a file, locked once: a flush on any queue, writethrough and back, the file holds it all', async () => {
    const file = fresh('disk');
    writeFileSync(file, new Uint8Array(1 << 20));
    const daemon = await start('--blk-file', file, '--serial', 'split');
    const second = await finish(startVirtlab(['vhost-user-blk', '-s', fresh('s'), ...THREADS, '-b', file]));
    expect(second).toMatchObject({ code: 3, stderr: expect.stringMatching(/is locked/) });
    await drive(daemon.socket, async ({ driver }) => {
      for (let queue = 0; queue < QUEUE_COUNT; queue += 1) await request(driver, queue, queue, 0x50 + queue);
      await driver.flush();
      expect(await driver.setWriteback(false)).toBe(false);
      for (let queue = 0; queue < QUEUE_COUNT; queue += 1)
        await request(driver, queue, 8 + queue, 0x60 + queue);
      expect(await driver.setWriteback(true)).toBe(true);
      expect(await driver.getId()).toBe('split');
    });
    await stop(daemon);
    const bytes = readFileSync(file);
    const firsts = [0, 1, 2, 8, 9, 10].map((sector) => bytes[sector * SECTOR]);
    expect(firsts).toEqual([0x50, 0x51, 0x52, 0x60, 0x61, 0x62]);
  });

  it('SIGHUP: all threads take over a new size, and the driver is told once', async () => {
    const file = fresh('disk');
    writeFileSync(file, new Uint8Array(1 << 20));
    const daemon = await start('--blk-file', file);
    await drive(daemon.socket, async ({ driver }) => {
      const seen: number[] = [];
      driver.onCapacityChange((sectors) => seen.push(sectors));
      truncateSync(file, 2 << 20);
      daemon.child.kill('SIGHUP');
      await vi.waitFor(() => expect(seen).toEqual([4096]), { timeout: 20_000 });
      for (let queue = 0; queue < QUEUE_COUNT; queue += 1) {
        await vi.waitFor(async () => void (await request(driver, queue, 4000 + queue, 7)));
      }
    });
    await stop(daemon);
  });

  it('connections come and go, also of what is no driver, and no descriptor stays', async () => {
    const daemon = await start('--backend', 'null', '--size', '1M');
    const descriptors = (): number => readdirSync(`/proc/${daemon.child.pid}/fd`).length;
    const before = descriptors();
    for (let round = 0; round < 3; round += 1) {
      const stream = UnixStream.connect(daemon.socket);
      const closed = new Promise((resolve) => stream.onClose(resolve));
      stream.onData(() => {});
      stream.send(new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n'));
      await closed;
      await drive(daemon.socket, async ({ driver }) => void (await request(driver, round, 0)));
    }
    await vi.waitFor(() => expect(descriptors()).toBe(before));
    const reasons = (await stop(daemon)).flatMap(({ reason }) => (reason === undefined ? [] : [reason]));
    expect(reasons).toEqual([0, 1, 2].map(() => expect.stringMatching(/^BAD_VERSION: /)));
  });

  it('a connection that finds no descriptors ends, with a report, and the next is served', async () => {
    const daemon = await start('--backend', 'null', '--size', '1M');
    const { pid } = daemon.child;
    const open = (): string[] => readdirSync(`/proc/${pid}/fd`).toSorted();
    const before = open();
    await drive(daemon.socket, async ({ driver }) => void (await request(driver, 0, 0)));
    await vi.waitFor(() => expect(open()).toEqual(before), { timeout: 20_000 });
    // Room for what accept(2) takes, and no more.
    let limit = 0;
    for (let free = 0; free < 1; limit += 1) free += before.includes(`${limit}`) ? 0 : 1;
    const setLimit = (soft: number): Buffer => execFileSync('prlimit', [`--pid=${pid}`, `--nofile=${soft}:`]);
    setLimit(limit);
    const stream = UnixStream.connect(daemon.socket);
    stream.onData(() => {});
    const closed = new Promise((resolve) => stream.onClose(resolve));
    await closed;
    setLimit(1024);
    await drive(daemon.socket, async ({ driver }) => void (await request(driver, 1, 0)));
    const reasons = (await stop(daemon)).flatMap(({ reason }) => (reason === undefined ? [] : [reason]));
    expect(reasons).toEqual([expect.stringMatching(/^the thread of queue 0, 2 cannot be reached: EMFILE: /)]);
  });
});
