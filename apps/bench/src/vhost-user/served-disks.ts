import { join } from 'node:path';
import { BLOCK_SIZE, DISK_SIZE } from '../blk/block-positions.ts';
import type { BenchPlan, Contender, RunResult } from '../contender.ts';
import { cpuNsOf } from '../cpu-meter.ts';
import { COPY_ALONE } from './copy-alone.ts';
import { DEPTH_MAX, DiskClient, type DiskWork } from './disk-client.ts';
import { checksum, randomContents } from './disk-image.ts';
import type { ImageFolder } from './disk-image.ts';
import type { ForeignProcess } from './foreign-process.ts';
import { hasStorageDaemon, startStorageDaemon, startStorageDaemonOnFile } from './storage-daemon.ts';
import { startVirtlab } from './virtlab-daemon.ts';

/** Heading of the column with the processor time of the device's process alone, for one operation. */
export const DEVICE_CPU = 'CPU of the device, µs';
const WRITTEN_SIZE = 1 << 20;
/** Of the plan's time for a run, for each kind of request. */
const WARM_UP_SHARE = 4;
const WARM_UP_COUNT = 256;

/** What a disk does with what is written: keeps it, or reads as zeroes whatever was written, or does neither. */
type Contents = 'kept' | 'zeroes' | 'none';

/** A disk that a process serves, and a client that is connected to it. */
export interface ServedDisk {
  readonly name: string;
  readonly isPeer: boolean;
  /** Names of the peers that do the same; of ours. */
  readonly beside: readonly string[];
  readonly process: ForeignProcess;
  readonly client: DiskClient;
}

const NULL_CO = 'qsd, null-co';
const ZEROES = 'qsd, null-co, read-zeroes';
const file = (aio: string): string => `qsd, raw file, ${aio}`;

interface Start {
  readonly name: string;
  readonly contents: Contents;
  readonly beside: readonly string[];
  readonly process: ForeignProcess;
  readonly path: string;
}

/**
 * Ours and those of qemu-storage-daemon, each a process with a client, all in `stack`. What each holds is verified: read, written
 * and read again.
 */
export async function serveDisks(
  { folder, runMs, onMissing }: BenchPlan,
  images: ImageFolder,
  stack: AsyncDisposableStack,
): Promise<readonly ServedDisk[]> {
  const contents = randomContents(DISK_SIZE);
  const image = (name: string): string => images.file(name, contents);
  const path = (name: string): string => join(folder, `${name}.sock`);
  const peers = hasStorageDaemon(onMissing) ? await startPeers(image, path, stack, onMissing) : [];
  const found: ServedDisk[] = [];
  for (const start of [...(await startOurs(image, path, stack, peers)), ...peers]) {
    const { name, beside, process } = start;
    const client = stack.use(await DiskClient.connect(start.path));
    verify(name, client, start.contents, contents);
    warmUp(client, WARM_UP_SHARE * runMs);
    found.push({ name, isPeer: peers.includes(start), beside, process, client });
  }
  return found;
}

type Place = (name: string) => string;

async function startOurs(
  image: Place,
  path: Place,
  stack: AsyncDisposableStack,
  peers: readonly Start[],
): Promise<readonly Start[]> {
  const serve = async (
    name: string,
    contents: Contents,
    beside: readonly string[],
    args: readonly string[],
  ) => {
    const place = path(`ours-${name}`);
    const options = ['--socket-path', place, '--backend', name, ...args];
    const daemon = stack.use(await startVirtlab('vhost-user-blk', ...options));
    const words = name === 'raw' ? 'raw file' : name;
    return { name: `virtlab, ${words}`, contents, beside, process: daemon, path: place };
  };
  const onFile = peers.flatMap(({ name, contents }) => (contents === 'kept' ? [name] : []));
  return [
    await serve('null', 'none', [NULL_CO], ['--size', String(DISK_SIZE)]),
    await serve('memory', 'kept', [COPY_ALONE, ZEROES, ...onFile], ['--blk-file', image('memory.raw')]),
    await serve('raw', 'kept', onFile, ['--blk-file', image('ours.raw')]),
  ];
}

async function startPeers(
  image: Place,
  path: Place,
  stack: AsyncDisposableStack,
  onMissing: BenchPlan['onMissing'],
): Promise<readonly Start[]> {
  const [nothing, zeroes, raw] = [path('qsd-null'), path('qsd-zeroes'), path('qsd-raw')];
  const node = `driver=null-co,node-name=d0,size=${DISK_SIZE}`;
  const nullCo = stack.use(await startStorageDaemon(nothing, [`${node},read-zeroes=off`]));
  const readZeroes = stack.use(await startStorageDaemon(zeroes, [`${node},read-zeroes=on`]));
  const { daemon, aio } = await startStorageDaemonOnFile(raw, image('qsd.raw'));
  stack.use(daemon);
  if (aio !== 'io_uring') onMissing('qsd, raw file, io_uring: refused here, so by threads');
  return [
    { name: NULL_CO, contents: 'none', beside: [], process: nullCo, path: nothing },
    { name: ZEROES, contents: 'zeroes', beside: [], process: readZeroes, path: zeroes },
    { name: file(aio), contents: 'kept', beside: [], process: daemon, path: raw },
  ];
}

/** Throws when the disk does not hold what it should. */
function verify(name: string, client: DiskClient, kind: Contents, contents: Uint8Array): void {
  if (kind === 'none') return;
  const expected = kind === 'kept' ? contents.slice() : new Uint8Array(DISK_SIZE);
  const check = (when: string): void => {
    if (checksum(client.contents()) !== checksum(expected)) {
      throw new Error(`${name}: what was read ${when} is not what the disk holds`);
    }
  };
  check('first');
  const written = randomContents(WRITTEN_SIZE);
  client.write(written);
  if (kind === 'kept') expected.set(written);
  check('after a write');
}

/** A process that has just started runs code that nobody optimized yet; each is asked for everything for a while. */
function warmUp(client: DiskClient, timeMs: number): void {
  for (const depth of [DEPTH_MAX, 1]) {
    for (const isWrite of [false, true]) {
      const until = performance.now() + timeMs;
      do client.run({ isWrite, isSequential: false, size: BLOCK_SIZE, depth }, WARM_UP_COUNT);
      while (performance.now() < until);
    }
  }
}

/** The disk's client as a contender. */
export function diskContender(
  { name, isPeer, beside, process, client }: ServedDisk,
  work: DiskWork,
): Contender {
  return {
    name,
    isPeer,
    ...(isPeer ? {} : { beside }),
    pids: [process.pid],
    run: (count): RunResult => {
      const before = cpuNsOf([process.pid]);
      const result = client.run(work, count);
      const after = cpuNsOf([process.pid]);
      if (before === undefined || after === undefined) return result;
      return { ...result, counts: { [DEVICE_CPU]: (after - before) / 1000 } };
    },
  };
}
