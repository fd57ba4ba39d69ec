import { createHash } from 'node:crypto';
import { join } from 'node:path';
import {
  type GuestDevice,
  type LinuxGuest,
  startLinuxGuest,
  vhostUserBlk,
  virtioBlk,
} from '@virtlab/linux-guest';
import { DISK_SIZE } from '../blk/block-positions.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { cpuNsOf } from '../cpu-meter.ts';
import { type ImageFolder, randomContents } from './disk-image.ts';
import { guestNs } from './guest-clock.ts';
import { DEVICE_CPU } from './served-disks.ts';
import { hasStorageDaemon, startStorageDaemonOnFile } from './storage-daemon.ts';
import { startVirtlab } from './virtlab-daemon.ts';

/** Name, in words, and what is not as it comes. */
const OURS: readonly (readonly [string, string, readonly string[]])[] = [
  ['raw', 'raw file', []],
  ['brief', 'raw file, --poll-us 50', ['--poll-us', '50']],
  ['memory', 'memory', ['--backend', 'memory']],
];
/** Of each disk so much is verified. */
const VERIFIED_SIZE = 1 << 20;

interface DiskOfGuest {
  readonly name: string;
  readonly isPeer: boolean;
  readonly device: GuestDevice;
  /** The process that serves it, where that is not QEMU. */
  readonly pid?: number | undefined;
  /** SHA-256 of its beginning. */
  readonly checksum: string;
}

/** What the guest does: requests of `size` bytes, one after the other, past its page cache. */
export interface GuestWork {
  readonly isWrite: boolean;
  readonly size: number;
}

/** A Linux guest with a disk of each kind, called `/dev/vda` and so on in their order. */
export class GuestDisks {
  readonly #guest: LinuxGuest;
  readonly #disks: readonly DiskOfGuest[];

  private constructor(guest: LinuxGuest, disks: readonly DiskOfGuest[]) {
    this.#guest = guest;
    this.#disks = disks;
  }

  /** Everything that is started ends with `stack`. Rejects when a disk does not hold what it should. */
  static async start(plan: BenchPlan, images: ImageFolder, stack: AsyncDisposableStack): Promise<GuestDisks> {
    const disks = await makeDisks(plan, images, stack);
    const guest = stack.use(await startLinuxGuest({ devices: disks.map(({ device }) => device) }));
    for (const [index, { name, checksum }] of disks.entries()) {
      const found = await guest.output(`dd if=${path(index)} bs=${VERIFIED_SIZE} count=1 2>&- | sha256sum`);
      if (found.split(' ')[0] !== checksum) throw new Error(`${name}: the guest read something else`);
    }
    return new GuestDisks(guest, disks);
  }

  contenders(work: GuestWork): readonly Contender[] {
    const pids = (pid: number | undefined): readonly number[] => (pid === undefined ? [] : [pid]);
    return this.#disks.map(({ name, isPeer, pid }, index) => ({
      name,
      isPeer,
      pids: [this.#guest.pid, ...pids(pid)],
      run: async (count) => {
        const before = cpuNsOf(pids(pid));
        const elapsedNs = await guestNs(this.#guest, transfer(path(index), work, count));
        const after = cpuNsOf(pids(pid));
        const result = { operationCount: count, elapsedNs };
        if (pid === undefined || before === undefined || after === undefined) return result;
        return { ...result, counts: { [DEVICE_CPU]: (after - before) / 1000 } };
      },
    }));
  }
}

function path(index: number): string {
  return `/dev/vd${String.fromCodePoint('a'.codePointAt(0)! + index)}`;
}

/** So many requests, from the beginning of the disk on, as often as it takes. */
function transfer(disk: string, { isWrite, size }: GuestWork, count: number): string {
  const whole = DISK_SIZE / size;
  const dd = (blocks: number): string =>
    isWrite
      ? `dd if=/dev/zero of=${disk} bs=${size} count=${blocks} oflag=direct conv=notrunc 2>&-`
      : `dd if=${disk} of=/dev/null bs=${size} count=${blocks} iflag=direct 2>&-`;
  const rest = count % whole;
  return [
    ...Array.from({ length: Math.floor(count / whole) }, () => dd(whole)),
    ...(rest > 0 ? [dd(rest)] : []),
  ].join('\n');
}

async function makeDisks(
  { folder, onMissing }: BenchPlan,
  images: ImageFolder,
  stack: AsyncDisposableStack,
): Promise<readonly DiskOfGuest[]> {
  const disks: DiskOfGuest[] = [];
  const image = (name: string): { readonly file: string; readonly checksum: string } => {
    const contents = randomContents(DISK_SIZE);
    const beginning = contents.subarray(0, VERIFIED_SIZE);
    return {
      file: images.file(name, contents),
      checksum: createHash('sha256').update(beginning).digest('hex'),
    };
  };
  for (const [id, words, more] of OURS) {
    const socketPath = join(folder, `guest-${id}.sock`);
    const { file, checksum } = image(`guest-${id}.raw`);
    const options = ['--socket-path', socketPath, '--blk-file', file, ...more];
    const daemon = stack.use(await startVirtlab('vhost-user-blk', ...options));
    const device = vhostUserBlk({ id: `ours-${id}`, socketPath });
    disks.push({ name: `virtlab, ${words}`, isPeer: false, device, pid: daemon.pid, checksum });
  }
  if (hasStorageDaemon(onMissing)) {
    const socketPath = join(folder, 'guest-qsd.sock');
    const { file, checksum } = image('guest-qsd.raw');
    const { daemon, aio } = await startStorageDaemonOnFile(socketPath, file);
    stack.use(daemon);
    const device = vhostUserBlk({ id: 'qsd', socketPath });
    disks.push({ name: `qsd, raw file, ${aio}`, isPeer: true, device, pid: daemon.pid, checksum });
  }
  const { file, checksum } = image('guest-plain.raw');
  const device = virtioBlk({ id: 'plain', file });
  disks.push({ name: 'virtio-blk-pci, raw file', isPeer: true, device, checksum });
  return disks;
}
