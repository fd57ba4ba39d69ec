import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { vhostUserBlk, virtioBlk } from './guest-device.ts';
import { startLinuxGuest } from './linux-guest.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { TemporaryDirectory } from './testing/temporary-directory.ts';

const DISK_SIZE = 64 * 2 ** 20;

/** Resolves when the file exists. */
async function untilExists(path: string): Promise<void> {
  const watcher = watch(dirname(path));
  try {
    while (!existsSync(path)) await once(watcher, 'change');
  } finally {
    watcher.close();
  }
}

describeGuests('a guest with a disk', () => {
  it('keeps a file system over a dropped cache, a reboot and its end, and e2fsck is content', async () => {
    using directory = new TemporaryDirectory();
    const file = directory.image('disk.raw', DISK_SIZE);
    await using guest = await startLinuxGuest({ cpuCount: 2, devices: [virtioBlk({ file, queueCount: 2 })] });
    expect(await guest.output('ls /sys/block/vda/mq | wc -l')).toBe('2');
    const written = await guest.output(`
      mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt || exit
      dd if=/dev/urandom of=/mnt/file bs=64k count=128 2>/dev/null
      sha256sum /mnt/file`);
    const dropped = await guest.output('sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /mnt/file');
    expect(dropped).toBe(written);

    const { bootId } = guest;
    await guest.reboot(); // unmounts
    expect(guest.bootId).not.toBe(bootId);
    await guest.output('mount /dev/vda /mnt');
    expect(await guest.output('sha256sum /mnt/file')).toBe(written);
    await guest.output('umount /mnt');
    await guest.powerOff();
    expect(guest.messages).toBe('');

    const check = spawnSync('e2fsck', ['-f', '-n', file], { encoding: 'utf8' });
    expect(check.stderr + check.stdout).toContain('Pass 5');
    expect(check.status).toBe(0);
  });

  it('takes a disk that another process serves over vhost-user, and gives it back', async () => {
    using directory = new TemporaryDirectory();
    const file = directory.image('disk.raw', DISK_SIZE);
    const socketPath = directory.file('blk.sock');
    const pidFile = directory.file('pid');
    const server = spawn('qemu-storage-daemon', [
      '--blockdev',
      `driver=file,node-name=disk,filename=${file}`,
      '--pidfile',
      pidFile,
      '--export',
      `type=vhost-user-blk,id=blk,node-name=disk,addr.type=unix,addr.path=${socketPath},writable=on,num-queues=2`,
    ]);
    const ended = once(server, 'exit');
    try {
      await untilExists(pidFile); // written when it serves
      await using guest = await startLinuxGuest({ cpuCount: 2, slotCount: 1 });
      const disk = vhostUserBlk({ socketPath, queueCount: 2 });
      for (const round of [1, 2]) {
        await guest.plug(disk);
        await expect(guest.plug({ ...disk, id: 'other' })).rejects.toThrow('no free slot');
        await guest.waitUntil('[ -b /dev/vda ]');
        expect(await guest.output('ls /sys/block/vda/mq | wc -l')).toBe('2');
        await guest.output(
          `printf 'round ${round}' | dd of=/dev/vda bs=512 conv=sync oflag=direct 2>/dev/null`,
        );
        expect(await guest.virtioStatus(disk.id)).toMatchObject({
          name: 'virtio-blk',
          'vhost-started': true,
        });
        await guest.unplug(disk.id);
        await guest.waitUntil('[ ! -b /dev/vda ]');
        const head = spawnSync('head', ['-c', '7', file], { encoding: 'utf8' });
        expect(head.stdout).toBe(`round ${round}`);
      }
      await guest.powerOff();
    } finally {
      server.kill();
      await ended;
    }
  });

  it('leaves nothing of a device that could not be plugged', async () => {
    using directory = new TemporaryDirectory();
    const file = directory.image('disk.raw', DISK_SIZE);
    await using guest = await startLinuxGuest({ slotCount: 1 });
    const bad = virtioBlk({ file, properties: { 'no-such-property': 1 } });
    await expect(guest.plug(bad)).rejects.toMatchObject({
      code: 'qmp',
      message: expect.stringMatching(/^device_add/),
    });
    await guest.plug(virtioBlk({ file, readOnly: true }));
    await guest.waitUntil('[ -b /dev/vda ]');
    expect(await guest.output('blockdev --getro /dev/vda')).toBe('1');
    await expect(guest.unplug('blk1')).rejects.toThrow(RangeError);
  });
});
