import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UnixStream, closeFd, memfdCreate } from '@virtlab/linux';
import { REQUESTS, RequestSender } from '@virtlab/vhost-user';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { finish, lines, startVirtlab } from '../testing/virtlab.ts';

const SIZE = 4096;
const REGION = { guestAddress: 0n, size: BigInt(SIZE), userAddress: 0x1000n, mmapOffset: 0n };
const QUEUE_SIZE_WRONG = 0x4000;
const REASONS_MAX = 16;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-refused-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;

type Sender = ReturnType<typeof senderTo>;

function senderTo(socket: string) {
  const stream = UnixStream.connect(socket);
  const decodeContext = () => ({ queueCount: 256, hasXenMmap: false });
  return new RequestSender({ stream, table: REQUESTS, decodeContext, onEnd: () => {} });
}

/** What a daemon writes while each of the bodies has a connection, one after the other. */
async function written(
  args: readonly string[],
  ...bodies: readonly ((sender: Sender) => Promise<void>)[]
): Promise<{ readonly socket: string; readonly stdout: string[]; readonly stderr: string[] }> {
  const socket = join(folder, `${(count += 1)}`);
  const child = startVirtlab([...args, '--socket-path', socket]);
  const ended = finish(child);
  await lines(child, 1);
  for (const body of bodies) {
    const sender = senderTo(socket);
    await body(sender);
    sender.close();
  }
  child.kill('SIGTERM');
  const { code, stdout, stderr } = await ended;
  expect(code).toBe(143);
  return { socket, stdout: stdout.trim().split('\n'), stderr: stderr.trim().split('\n') };
}

async function refused(asked: ReturnType<Sender['request']>): Promise<void> {
  expect(await asked).toMatchObject({ ok: false, fault: { code: 'REFUSED' } });
}

/** QEMU's memory-backend-file, say. */
async function shareUnsealed(sender: Sender): Promise<void> {
  const fd = memfdCreate('unsealed', SIZE, { seal: false });
  for (let time = 0; time < 3; time += 1) await refused(sender.request('SET_MEM_TABLE', [REGION], [fd]));
  closeFd(fd);
}

async function sizeWrongly(sender: Sender): Promise<void> {
  for (let more = 0; more < 2 * REASONS_MAX; more += 1) {
    await refused(sender.request('SET_VRING_NUM', { index: 0, num: QUEUE_SIZE_WRONG + more }));
  }
}

function warnings(stdout: readonly string[]): unknown[] {
  const reports = stdout.map((line) => JSON.parse(line) as { event: string; message?: string });
  return reports.filter(({ event }) => event === 'warning').map(({ message }) => message);
}

describe('a request that is refused, of which the other side is not told why', { timeout: 60_000 }, () => {
  const why =
    /: refused: SET_MEM_TABLE: region of 0x1000 bytes at guest 0x0: .*F_SEAL_SHRINK.*memory-backend-memfd without hugetlb is taken$/;

  it('is a line with the reason, once for a connection', async () => {
    const { socket, stderr } = await written(['vhost-user-rng'], shareUnsealed, shareUnsealed);
    const warned = stderr.filter((line) => line.includes(': refused: '));
    expect(warned).toEqual([1, 2].map(() => expect.stringMatching(why)));
    expect(warned[0]!.startsWith(`virtlab: ${socket}: `)).toBe(true);
  });

  it('is a warning of --json, with the option that would help where there is one', async () => {
    const { stdout } = await written(['vhost-user-net', '--json'], shareUnsealed);
    expect(warnings(stdout)).toEqual([
      expect.stringMatching(/memory-backend-memfd without hugetlb is taken, and with --allow-shrink any$/),
    ]);
  });

  it('is one, too, of a disk whose queues are spread over threads', async () => {
    const disk = ['vhost-user-blk', '--backend', 'null', '--size', '1M'];
    const { stdout } = await written(
      [...disk, '--num-queues', '3', '--threads', '3', '--json'],
      shareUnsealed,
    );
    expect(warnings(stdout)).toEqual([expect.stringMatching(why)]);
  });

  it('does not fill the log, however many reasons the other side makes up', async () => {
    const { socket, stdout } = await written(['vhost-user-rng', '--json'], sizeWrongly, shareUnsealed);
    const warned = warnings(stdout);
    const sizes = Array.from({ length: REASONS_MAX }, (_, more) => QUEUE_SIZE_WRONG + more);
    expect(warned).toEqual([
      ...sizes.map((size) => expect.stringMatching(`SET_VRING_NUM: queue 0 of ${size} entries, not 1 to`)),
      `${socket}: what else it is refused is not reported`,
      expect.stringMatching(why),
    ]);
  });
});
