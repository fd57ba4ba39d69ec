import { expect, it } from 'vitest';
import { type LinuxGuest, startLinuxGuest, vhostUserBlk } from '@virtlab/linux-guest';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { createImage, expectCleanFileSystem, fileChecksum } from './testing/disk-image.ts';

const DISK_SIZE = 64 << 20;
const QUEUES = [0, 1];

/** How often the disk's queues have called, over all processors. */
async function calls(guest: LinuxGuest, device: string): Promise<number[]> {
  const virtio = await guest.output(`basename $(readlink /sys/block/${device}/device)`);
  const lines = (await guest.output(`grep -- "${virtio}-req" /proc/interrupts`)).split('\n');
  return lines.map((line) => {
    const [first, second] = line.trim().split(/\s+/).slice(1, 3);
    return Number(first) + Number(second);
  });
}

describeGuests('disks of virtlab vhost-user-blk under Linux', () => {
  const folder = new DaemonFolder();

  it('keep their files over a reboot and a reset in the midst of writes, on two queues, split and packed', async () => {
    const disks = await Promise.all(
      ['split', 'packed'].map(async (id, index) => {
        const [socketPath, image] = [folder.file(id), createImage(folder.file(`${id}.img`), DISK_SIZE)];
        const args = ['--socket-path', socketPath, '--blk-file', image, '--num-queues', '2'];
        const daemon = await folder.start('vhost-user-blk', ...args, '--serial', id);
        const properties = { packed: id === 'packed' };
        const device = vhostUserBlk({ id, socketPath, queueCount: 2, properties });
        return { id, image, daemon, device, name: `vd${'ab'[index]}` };
      }),
    );
    await using guest = await startLinuxGuest({ cpuCount: 2, devices: disks.map(({ device }) => device) });
    for (const { id, name } of disks) expect(await guest.output(`cat /sys/block/${name}/serial`)).toBe(id);
    const mount = disks.map(({ name }) => `mkdir -p /mnt/${name}; mount -t ext4 /dev/${name} /mnt/${name}`);
    const written = await guest.output(`
      ${disks.map(({ name }) => `mkfs.ext4 -q /dev/${name} || exit`).join('\n')}
      ${mount.join(' && ')} || exit
      for each in /mnt/*; do dd if=/dev/urandom of=$each/file bs=64k count=128 2>/dev/null; done
      sync
      sha256sum /mnt/*/file`);

    // Requests as large as Linux makes them.
    for (const { name } of disks) {
      await guest.output(`dd if=/dev/${name} of=/dev/null bs=1M count=16 iflag=direct`);
    }

    // A processor's requests go to its own queue.
    for (const { name } of disks) {
      const before = await calls(guest, name);
      expect(before).toHaveLength(QUEUES.length);
      for (const mask of [1, 2]) {
        await guest.output(`taskset ${mask} dd if=/dev/${name} of=/dev/null bs=4k count=64 iflag=direct`);
      }
      const after = await calls(guest, name);
      for (const queue of QUEUES)
        expect(after[queue], `${name}: calls of queue ${queue}`).toBeGreaterThan(before[queue]!);
    }

    await guest.reboot();
    await guest.output(mount.join(' && '));
    expect(await guest.output('sha256sum /mnt/*/file')).toBe(written);

    // The machine's reset button while both disks are busy: the journal makes up for the rest.
    const busy = guest.run(`
      for each in /mnt/*; do
        while :; do dd if=/dev/urandom of=$each/more bs=64k count=32 conv=fsync; done &
      done
      wait`);
    const cut = busy.then(
      () => 'ended',
      () => 'cut',
    );
    await guest.waitUntil('for each in /mnt/*; do [ -s $each/more ] || exit 1; done');
    await guest.reset();
    expect(await cut).toBe('cut');
    await guest.output(mount.join(' && '));
    expect(await guest.output('sha256sum /mnt/*/file')).toBe(written);
    await guest.powerOff();
    expect(guest.messages).toBe('');

    for (const [index, { id, image, daemon }] of disks.entries()) {
      expectCleanFileSystem(image);
      expect(fileChecksum(image, '/file')).toBe(written.split('\n')[index]!.split(' ')[0]);
      const started = daemon.reports.filter(({ event, state }) => event === 'queue' && state === 'started');
      for (const queue of QUEUES) {
        const times = started.filter((report) => report['queue'] === queue).length;
        expect(times, `${id}: starts of queue ${queue}`).toBeGreaterThanOrEqual(3);
      }
    }
  });
});
