import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { VIRTIO_BLK_F_RO } from '@virtlab/abi/virtio-blk';
import { hasFeature } from '@virtlab/abi/virtio';
import { startLinuxGuest, vhostUserBlk } from '@virtlab/linux-guest';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { allocatedSize, createImage, expectCleanFileSystem, fileChecksum } from './testing/disk-image.ts';
import { guestFeatures } from './testing/features.ts';

const MEBIBYTE = 2 ** 20;
const DISK_SIZE = 64 * MEBIBYTE;

describeGuests('disks of virtlab vhost-user-blk with all that Linux asks of them', () => {
  const folder = new DaemonFolder();

  it('gives back what is discarded, grows, refuses writes where it is read-only, says its serial, is plugged and unplugged', async () => {
    const disk = {
      id: 'disk',
      socketPath: folder.file('rw'),
      image: createImage(folder.file('rw.img'), DISK_SIZE),
    };
    const rom = { id: 'rom', socketPath: folder.file('ro'), image: folder.file('ro.img') };
    const contents = randomBytes(MEBIBYTE);
    writeFileSync(rom.image, contents, { mode: 0o444 });
    const place = ({ socketPath, image }: typeof disk): readonly string[] => [
      '--socket-path',
      socketPath,
      '--blk-file',
      image,
    ];
    const daemon = await folder.start(
      'vhost-user-blk',
      ...place(disk),
      '--discard',
      '--serial',
      'virtlab 0123456789 x',
    );
    await folder.start('vhost-user-blk', ...place(rom), '--read-only', '--serial', 'rom');
    await using guest = await startLinuxGuest({
      programs: ['resize2fs', 'blkdiscard'],
      slotCount: 1,
      devices: [vhostUserBlk(disk), vhostUserBlk(rom)],
    });
    expect(await guest.output('cat /sys/block/vda/serial')).toBe('virtlab 0123456789 x');
    expect(await guest.output('cat /sys/block/vdb/serial')).toBe('rom');

    const accepted = await guestFeatures(guest, '/sys/block/vdb/device');
    expect(hasFeature(accepted, VIRTIO_BLK_F_RO)).toBe(true);
    expect(await guest.output('blockdev --getro /dev/vdb')).toBe('1');
    expect((await guest.run('dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct')).status).not.toBe(0);
    // Linux refuses by itself; told that the disk can be written, it hears of it from the device.
    await guest.output('blockdev --setrw /dev/vdb');
    expect((await guest.run('dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct')).status).not.toBe(0);
    expect(await guest.output('cmp /dev/vdb /dev/vdb && head -c 1 /dev/vdb | wc -c')).toBe('1');
    expect(readFileSync(rom.image).equals(contents), 'nothing was written').toBe(true);

    await guest.output(`
      mkfs.ext4 -q -E nodiscard /dev/vda && mount -t ext4 /dev/vda /mnt || exit
      dd if=/dev/urandom of=/mnt/keep bs=1M count=4 && dd if=/dev/urandom of=/mnt/drop bs=1M count=24 && sync`);
    const full = allocatedSize(disk.image);
    expect(full).toBeGreaterThan(28 * MEBIBYTE);
    await guest.output('rm /mnt/drop && sync && fstrim /mnt && sync');
    expect(full - allocatedSize(disk.image)).toBeGreaterThan(20 * MEBIBYTE);

    truncateSync(disk.image, 2 * DISK_SIZE);
    daemon.signal('SIGHUP');
    await guest.waitUntil(`[ "$(blockdev --getsize64 /dev/vda)" = ${2 * DISK_SIZE} ]`);
    await guest.output('resize2fs /dev/vda');
    expect(Number(await guest.output("df -m /mnt | awk 'END { print $2 }'"))).toBeGreaterThan(100);
    const kept = await guest.output(
      'umount /mnt && mount -t ext4 /dev/vda /mnt && sha256sum </mnt/keep && umount /mnt',
    );

    expectCleanFileSystem(disk.image);
    expect(`${fileChecksum(disk.image, '/keep')}  -`).toBe(kept);
    await guest.output('/usr/sbin/blkdiscard -o 1048576 -l 16777216 /dev/vda');
    const range = readFileSync(disk.image).subarray(MEBIBYTE, 17 * MEBIBYTE);
    expect(range.every((byte) => byte === 0)).toBe(true);
    await guest.output('/usr/sbin/blkdiscard -z -o 0 -l 1048576 /dev/vda');
    expect(await guest.output('head -c 1048576 /dev/vda | tr -d "\\0" | wc -c')).toBe('0');

    // Into the running guest, out of it, and in again; the daemon serves one card after the other.
    const hot = {
      id: 'hot',
      socketPath: folder.file('hot'),
      image: createImage(folder.file('hot.img'), DISK_SIZE),
    };
    const hotDaemon = await folder.start('vhost-user-blk', ...place(hot), '--serial', 'hot');
    const plugged: string[] = [];
    for (const make of ['mkfs.ext4 -q /dev/vdc', ':']) {
      await guest.plug(vhostUserBlk(hot));
      await guest.waitUntil('[ "$(cat /sys/block/vdc/serial)" = hot ]');
      plugged.push(
        await guest.output(`
          ${make} && mount -t ext4 /dev/vdc /mnt || exit
          [ -e /mnt/file ] || dd if=/dev/urandom of=/mnt/file bs=1M count=2 2>/dev/null
          sha256sum </mnt/file && umount /mnt`),
      );
      await guest.unplug(hot.id);
      await guest.waitUntil('[ ! -b /dev/vdc ]');
    }
    expect(plugged[1]).toBe(plugged[0]);
    expectCleanFileSystem(hot.image);
    expect(`${fileChecksum(hot.image, '/file')}  -`).toBe(plugged[0]);
    expect(hotDaemon.reports.filter(({ event }) => event === 'connected')).toHaveLength(2);
    await guest.powerOff();
  });
});
