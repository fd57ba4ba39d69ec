import { expect, it } from 'vitest';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, featureBit, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { type QemuProperties, startLinuxGuest, vhostUserBlk } from '@virtlab/linux-guest';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { createImage, expectCleanFileSystem, fileChecksum } from './testing/disk-image.ts';
import { daemonFeatures, guestFeatures } from './testing/features.ts';

const DISK_SIZE = 32 << 20;
const EVENT_IDX = featureBit(VIRTIO_RING_F_EVENT_IDX);
const INDIRECT = featureBit(VIRTIO_RING_F_INDIRECT_DESC);

const VARIANTS: readonly (readonly [name: string, properties: QemuProperties])[] = [
  ['split', {}],
  ['packed', { packed: true }],
  ['split, no events', { event_idx: false }],
  ['split, plain', { event_idx: false, indirect_desc: false }],
  ['packed, plain', { packed: true, event_idx: false, indirect_desc: false }],
  ['split, 16 long', { 'queue-size': 16 }],
];

/** Linux accepts them when the disk has them, whatever its rings are. */
const ALWAYS = [
  VIRTIO_F_VERSION_1,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
];

/** Makes a file system, writes a file and reads it twice, from the cache and from the disk; says the checksums. */
const script = (device: string): string => `
  mkdir -p /mnt/${device}
  mkfs.ext4 -q /dev/${device} && mount -t ext4 /dev/${device} /mnt/${device} || exit
  dd if=/dev/urandom of=/mnt/${device}/file bs=1M count=4 2>/dev/null && sync || exit
  sha256sum </mnt/${device}/file
  echo 3 >/proc/sys/vm/drop_caches
  sha256sum </mnt/${device}/file
  umount /mnt/${device}`;

describeGuests('Linux on disks of virtlab vhost-user-blk', () => {
  const folder = new DaemonFolder();

  it('negotiates what each offers, and file systems on rings of all kinds are in order', async () => {
    const disks = await Promise.all(
      VARIANTS.map(async ([name, properties], index) => {
        const id = `blk${index}`;
        const [socketPath, image] = [folder.file(`${id}.sock`), createImage(folder.file(id), DISK_SIZE)];
        const length = String(properties['queue-size'] ?? 128); // QEMU's, where nothing is said
        const options = ['--num-queues', '2', '--queue-size', length, '--discard', '--serial', id];
        const daemon = await folder.start(
          'vhost-user-blk',
          '--socket-path',
          socketPath,
          '--blk-file',
          image,
          ...options,
        );
        const device = vhostUserBlk({ id, socketPath, queueCount: 2, properties });
        return { name, properties, id, socketPath, image, daemon, device };
      }),
    );
    await using guest = await startLinuxGuest({ cpuCount: 2, devices: disks.map(({ device }) => device) });
    const found = await guest.output(
      'for i in /sys/block/vd*; do echo $(basename $i) $(cat $i/serial); done',
    );
    const names = new Map(found.split('\n').map((line) => line.split(' ').toReversed() as [string, string]));
    const checksums = new Map<string, string>();
    for (const { name, id, properties, daemon, socketPath } of disks) {
      const device = names.get(id);
      expect(device, `${name}: found by its serial in ${found}`).toBeDefined();
      const accepted = await guestFeatures(guest, `/sys/block/${device}/device`);
      expect(daemonFeatures(daemon, socketPath), `${name}: the daemon knows what the guest accepted`).toBe(
        accepted,
      );
      for (const feature of ALWAYS) expect(hasFeature(accepted, feature), `${name}: ${feature}`).toBe(true);
      const varying = featureBit(VIRTIO_F_RING_PACKED) | EVENT_IDX | INDIRECT;
      const wanted =
        (properties['packed'] === true ? featureBit(VIRTIO_F_RING_PACKED) : 0n) |
        (properties['event_idx'] === false ? 0n : EVENT_IDX) |
        (properties['indirect_desc'] === false ? 0n : INDIRECT);
      expect(accepted & varying, `${name}: features of rings`).toBe(wanted);
      expect(hasFeature(accepted, VIRTIO_BLK_F_RO)).toBe(false);
      expect(await guest.virtioStatus(id)).toMatchObject({ name: 'virtio-blk', 'vhost-started': true });

      const [cached, read] = (await guest.output(script(device!), { timeoutMs: 120_000 })).split('\n');
      expect(read, `${name}: read from the disk`).toBe(cached);
      checksums.set(id, read!.split(' ')[0]!);
    }
    expect(await guest.output('dmesg | grep -ciE "I/O error|virtio.*(error|broken)" || true')).toBe('0');
    await guest.powerOff();
    expect(guest.messages).toBe('');
    for (const { id, image } of disks) {
      expectCleanFileSystem(image);
      expect(fileChecksum(image, '/file')).toBe(checksums.get(id));
    }
  });
});
