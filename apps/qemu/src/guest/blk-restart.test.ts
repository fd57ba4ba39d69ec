import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { startLinuxGuest, vhostUserBlk } from '@virtlab/linux-guest';
import type { Daemon } from '../backends/testing/daemon.ts';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { createImage, expectCleanFileSystem, fileChecksum } from './testing/disk-image.ts';

const DISK_SIZE = 32 << 20;
const SOURCE_SIZE = 4 << 20;
const KILL_COUNT = 2;

/**
 * Four writers, each with its quarter, write one of three files again and again until /tmp/stop is there: what is lost, or
 * done late, leaves another file's blocks. Then each says which it wrote last. `/tmp/<device>.rounds` grows meanwhile.
 */
const writers = (device: string): string => `
  quarter() {
    round=0
    while :; do
      [ -e /tmp/stop ] && last=1 || last=0
      dd if=/tmp/source.$((round % 3)) of=/dev/${device} bs=4k skip=$(($1 * 256)) seek=$(($1 * 256)) count=256 \\
        oflag=direct 2>/tmp/${device}.error.$1 || { cat /tmp/${device}.error.$1; return 1; }
      echo >>/tmp/${device}.rounds
      [ $last = 1 ] && break
      round=$((round + 1))
    done
    echo $1 $((round % 3))
  }
  for each in 0 1 2 3; do quarter $each & done
  wait`;

describeGuests('virtlab vhost-user-blk killed under a guest', () => {
  const folder = new DaemonFolder();

  it('and started again: the guest has no error, and each block is what was written last', async () => {
    const disks = await Promise.all(
      ['split', 'packed'].map(async (id, index) => {
        const [socketPath, image] = [folder.file(id), createImage(folder.file(`${id}.img`), DISK_SIZE)];
        const args = [
          '--socket-path',
          socketPath,
          '--blk-file',
          image,
          '--num-queues',
          '2',
          '--serial',
          id,
          '--threads',
          '2',
        ];
        return {
          id,
          image,
          args,
          name: `vd${'ab'[index]}`,
          daemon: await folder.start('vhost-user-blk', ...args),
          device: vhostUserBlk({
            id,
            socketPath,
            queueCount: 2,
            reconnectSeconds: 1,
            properties: { packed: id === 'packed' },
          }),
        };
      }),
    );
    const restart = async (disk: { daemon: Daemon; readonly args: readonly string[] }): Promise<void> => {
      folder.forget(disk.daemon);
      expect(await disk.daemon.end('SIGKILL')).toBe('SIGKILL');
      disk.daemon = await folder.start('vhost-user-blk', ...disk.args);
      const { protocolFeatures } = await disk.daemon.heard(({ event }) => event === 'features');
      expect(String(protocolFeatures).split(' ')).toContain('INFLIGHT_SHMFD');
    };
    await using guest = await startLinuxGuest({ cpuCount: 2, devices: disks.map(({ device }) => device) });
    for (const { id, name } of disks) expect(await guest.output(`cat /sys/block/${name}/serial`)).toBe(id);
    await guest.output(
      `for each in 0 1 2; do dd if=/dev/urandom of=/tmp/source.$each bs=1M count=${SOURCE_SIZE >> 20}; done`,
    );
    const running = disks.map(({ name }) => guest.output(writers(name), { timeoutMs: 200_000 }));
    const rounds = async (name: string): Promise<number> =>
      Number(await guest.output(`cat /tmp/${name}.rounds 2>/dev/null | wc -l`));
    for (let kill = 0; kill < KILL_COUNT; kill += 1) {
      for (const disk of disks) {
        const past = await rounds(disk.name);
        await guest.waitUntil(`[ "$(cat /tmp/${disk.name}.rounds 2>/dev/null | wc -l)" -gt ${past + 4} ]`, {
          timeoutMs: 120_000,
        });
        await restart(disk);
      }
    }
    await guest.output('touch /tmp/stop');
    const ends = await Promise.all(running);
    const sources = await Promise.all(
      [0, 1, 2].map((each) =>
        guest.output(
          `for part in 0 1 2 3; do dd if=/tmp/source.${each} bs=1M skip=$part count=1 2>/dev/null | sha256sum; done`,
        ),
      ),
    );
    expect(await guest.output('dmesg | grep -ciE "I/O error|timed out|blocked for" || true')).toBe('0');
    for (const [index, { id, image }] of disks.entries()) {
      const last = ends[index]!.split('\n').map((line) => line.split(' ').map(Number));
      expect(last).toHaveLength(4);
      const contents = readFileSync(image);
      for (const [part, source] of last) {
        const bytes = contents.subarray(part! << 20, (part! + 1) << 20);
        const checksum = createHash('sha256').update(bytes).digest('hex');
        expect(`${checksum}  -`, `${id}, part ${part}`).toBe(sources[source!]!.split('\n')[part!]);
      }
    }
    await guest.powerOff();
  });

  it('and started again under a file system: it is in order, and its files are what they were', async () => {
    const [socketPath, image] = [folder.file('fs'), createImage(folder.file('fs.img'), DISK_SIZE)];
    const args = ['--socket-path', socketPath, '--blk-file', image, '--num-queues', '2'];
    let daemon = await folder.start('vhost-user-blk', ...args);
    await using guest = await startLinuxGuest({
      cpuCount: 2,
      devices: [vhostUserBlk({ socketPath, queueCount: 2, reconnectSeconds: 1 })],
    });
    const writing = guest.output(
      `
      mkfs.ext4 -q /dev/vda && mount -t ext4 -o errors=remount-ro /dev/vda /mnt || exit
      for each in $(seq 16); do
        dd if=/dev/urandom of=/mnt/file.$each bs=64k count=16 conv=fsync 2>/dev/null || exit
        sha256sum </mnt/file.$each >>/tmp/sums
      done
      sync
      echo 3 >/proc/sys/vm/drop_caches
      for each in $(seq 16); do sha256sum </mnt/file.$each; done | cmp - /tmp/sums && umount /mnt && cat /tmp/sums`,
      { timeoutMs: 200_000 },
    );
    for (const count of [3, 8]) {
      await guest.waitUntil(`[ "$(cat /tmp/sums 2>/dev/null | wc -l)" -ge ${count} ]`, {
        timeoutMs: 120_000,
      });
      folder.forget(daemon);
      expect(await daemon.end('SIGKILL')).toBe('SIGKILL');
      daemon = await folder.start('vhost-user-blk', ...args);
    }
    const sums = (await writing).split('\n').map((line) => line.split(' ')[0]);
    expect(sums).toHaveLength(16);
    await guest.powerOff();
    expectCleanFileSystem(image);
    for (const [index, sum] of sums.entries()) expect(fileChecksum(image, `/file.${index + 1}`)).toBe(sum);
  });
});
