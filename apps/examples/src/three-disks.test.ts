import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createNodeAioContext } from '@virtlab/aio/node';
import { createLocalSystem } from '@virtlab/domain/testing';
import { describeWithFfi } from '@virtlab/linux/testing';
import { StorageDaemon, describeWithStorageDaemon } from '@virtlab/vhost-user/testing';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { TemporaryDirectory } from '@virtlab/linux-guest/testing';
import { describe, expect, it } from 'vitest';
import type { DiskReport } from './driver-program.ts';
import { ServingProcess, virtlabCommand } from './testing/virtlab.ts';
import { overVhostUser, overXenbus } from './three-disks.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const SIZE = 1 << 20;
const RIGHT: DiskReport = { capacity: SIZE, blocksWritten: 64, wrongBlocks: [] };

/** What the program found, and what was left of it. */
async function outcomeOverVhostUser(path: string): Promise<readonly [DiskReport, readonly string[]]> {
  const aio = createNodeAioContext();
  const report = await overVhostUser(path, aio);
  const leaks = aio.leaks();
  aio[Symbol.dispose]();
  return [report, leaks];
}

describeWithStorageDaemon('the program on qemu-storage-daemon', () => {
  it('finds what it wrote', async () => {
    using folder = new TemporaryDirectory();
    const daemon = await StorageDaemon.startOnFile(folder.image('disk.raw', SIZE));
    expect(await outcomeOverVhostUser(daemon.path)).toEqual([RIGHT, []]);
    await daemon.kill();
  });
});

describeWithFfi('the program on virtlab vhost-user-blk', () => {
  it('finds what it wrote', async () => {
    using folder = new TemporaryDirectory();
    const [path, image] = [folder.file('disk.sock'), folder.image('disk.raw', SIZE)];
    const args = ['vhost-user-blk', '--socket-path', path, '--blk-file', image];
    await using _daemon = await ServingProcess.virtlab(...args);
    expect(await outcomeOverVhostUser(path)).toEqual([RIGHT, []]);
  });
});

describe('the program in a domU', () => {
  it('finds what it wrote on a disk of domain 0, over xenbus', async () => {
    const system = await createLocalSystem();
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: SIZE }) });
    const { domain, store } = await system.addGuest('guest', 'pv', (guest) =>
      system.services.devices.plug(guest, 0, device, 'blk', 'xenbus'),
    );
    expect(await overXenbus(domain, store)).toEqual(RIGHT);
    expect(domain.leaks()).toEqual([]);
    expect(await system.close()).toEqual([]);
  });
});

describeWithStorageDaemon('README: a program that uses a disk', () => {
  it('the commands print what it says', async () => {
    using folder = new TemporaryDirectory();
    const [, commands, printed] = /^```sh\n(truncate [^]*?)^```\n\nprints\n\n```text\n([^]*?)^```$/m.exec(
      README,
    )!;
    const script = commands!
      .replace('npx virtlab', virtlabCommand())
      .replace('npx node', `'${process.execPath}'`)
      .replace('apps/examples/src/', fileURLToPath(new URL('.', import.meta.url)));
    const ending = "trap 'kill $(jobs -p); wait' EXIT"; // the two daemons
    const { stdout } = await promisify(execFile)('bash', ['-c', `${ending}\n${script}`], {
      cwd: folder.path,
    });
    expect(stdout.replace(/^vhost-user-blk listens at .*\n/m, '')).toBe(printed);
  });
});

it('what differs is one line: the link', () => {
  const source = readFileSync(new URL('three-disks.ts', import.meta.url), 'utf8');
  const [one, other] = Array.from(
    source.matchAll(/^export async function [^]*? \{\n([^]*?)^\}/gm),
    ([, body]) => body!.split('\n'),
  ) as [string[], string[]];
  const different = one.flatMap((line, index) => (line === other[index] ? [] : [line]));
  expect(one).toHaveLength(other.length);
  expect(different).toEqual([expect.stringContaining('await using link')]);
});
