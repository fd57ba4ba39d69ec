import { expect, it } from 'vitest';
import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { VIRTIO_RNG_REQUESTQ } from '@virtlab/abi/virtio-rng';
import { createRngDriver } from '@virtlab/virtio-rng';
import { describeForeignDevice } from '@virtlab/virtio/conformance';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { QEMU_VHOST_USER_DIVERGENCES } from '../qtest/testing/divergences.ts';
import { ENTROPY_REQUEST, RequestClient } from '../qtest/testing/request-client.ts';
import { SharedMachine } from '../qtest/testing/shared-machine.ts';
import { DaemonFolder } from './testing/daemons.ts';

const SLOT = 3;

describeWithQemu("virtlab vhost-user-rng behind QEMU's vhost-user-rng-pci", () => {
  const folder = new DaemonFolder(async () => {
    await folder.start('vhost-user-rng', '--socket-path', folder.file('s'));
  });
  const shared = new SharedMachine({
    devices: () =>
      words(
        `-chardev socket,id=c,path=${folder.file('s')} -device vhost-user-rng-pci,chardev=c,addr=${SLOT}`,
      ),
  });

  it('§5.4.6 entropy arrives, many reads at once, for one driver after the other', async () => {
    for (let round = 0; round < 3; round += 1) {
      await using link = await shared.connect(SLOT);
      await using driver = await createRngDriver(link, { aio: shared.aio });
      const blocks = Array.from({ length: 40 }, () => new Uint8Array(256));
      const sizes = await Promise.all(blocks.map(async (block) => await driver.read(block)));
      expect(sizes.every((size) => size > 0 && size <= 256)).toBe(true);
      const seen = new Set(blocks.map((block) => Buffer.from(block.subarray(0, 16)).toString('hex')));
      expect(seen.size, 'no two reads begin alike').toBe(blocks.length);
    }
  });

  describeForeignDevice({
    name: 'rng, behind vhost-user',
    deviceType: VIRTIO_ID_RNG,
    queue: VIRTIO_RNG_REQUESTQ,
    bufferFlags: VRING_DESC_F_WRITE,
    create: () => shared.foreign(SLOT),
    createClient: (session) => new RequestClient(session, VIRTIO_RNG_REQUESTQ, ENTROPY_REQUEST),
    divergences: QEMU_VHOST_USER_DIVERGENCES,
  });
});
