import { readFileSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { VRING_AVAIL } from '@virtlab/abi/virtio-ring';
import { initializeDevice } from '@virtlab/virtio';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { describeForeignDevice } from '@virtlab/virtio/conformance';
import { describeBlkCases } from '../qtest/testing/blk-cases.ts';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { QEMU_VHOST_USER_DIVERGENCES } from '../qtest/testing/divergences.ts';
import { RequestClient, patternDisk, readRequest } from '../qtest/testing/request-client.ts';
import { SharedMachine } from '../qtest/testing/shared-machine.ts';
import type { Daemon } from './testing/daemon.ts';
import { DaemonFolder } from './testing/daemons.ts';

const SECTOR_COUNT = 256;
const PACKED = 3;
const CASES = 4;
const LAST_QUEUE = 3;

describeWithQemu("the transport to virtlab vhost-user-blk, through QEMU's vhost-user-blk-pci", () => {
  /** The one started last. */
  let casesDaemon: Daemon;
  const folder = new DaemonFolder(async () => {
    for (const slot of [PACKED, CASES]) {
      writeFileSync(folder.file(`disk${slot}`), patternDisk(SECTOR_COUNT));
      const args = ['--socket-path', folder.file(`s${slot}`), '--blk-file', folder.file(`disk${slot}`)];
      casesDaemon = await folder.start(
        'vhost-user-blk',
        ...args,
        ...(slot === PACKED ? ['--num-queues', '4', '--threads', '2'] : []),
      );
    }
  });
  const shared = new SharedMachine({
    devices: () =>
      words(`
        -chardev socket,id=c3,path=${folder.file('s3')}
        -device vhost-user-blk-pci,chardev=c3,addr=${PACKED},packed=on,num-queues=4
        -chardev socket,id=c4,path=${folder.file('s4')}
        -device vhost-user-blk-pci,chardev=c4,addr=${CASES},num-queues=1
      `),
  });

  for (const queue of [0, LAST_QUEUE]) {
    describeForeignDevice({
      name: `blk behind vhost-user, queue ${queue}`,
      deviceType: VIRTIO_ID_BLOCK,
      queue,
      create: () => shared.foreign(PACKED),
      createClient: (session) => new RequestClient(session, queue, readRequest(SECTOR_COUNT)),
      divergences: QEMU_VHOST_USER_DIVERGENCES,
      enduranceCount: queue === 0 ? 70_000 : 1000,
    });
  }
  it('a driver that breaks its ring: the daemon says which rule, and serves the next driver', async () => {
    const { link, close } = await shared.foreign(CASES);
    const session = await initializeDevice(link, {
      aio: shared.aio,
      wanted: 0n,
      queueCount: 1,
      polling: false,
    });
    const { driverArea, size } = session.queues[0]!.addresses;
    const { u8 } = shared.machine.memory;
    const ram = new DataView(u8.buffer, u8.byteOffset, u8.length);
    ram.setUint16(Number(driverArea) + VRING_AVAIL.offset.idx, size + 1, true);
    casesDaemon.mayWarn = true;
    // Not the session's kick, which rings for what it has added itself.
    link.transport.kick(0);
    const warning = await casesDaemon.heard(({ event }) => event === 'warning');
    expect(warning['message']).toMatch(/: queue 0: §.*the device needs a reset$/);
    await session.stop();
    expect(await close()).toEqual([]);

    await using next = await shared.connect(CASES);
    await using driver = await createBlkDriver(next, { aio: shared.aio });
    const target = new Uint8Array(VIRTIO_BLK_SECTOR_SIZE);
    await driver.read(5, target);
    expect(target.every((byte) => byte === 5)).toBe(true);
  });

  describeBlkCases({
    shared,
    slot: CASES,
    contents: () => new Uint8Array(readFileSync(folder.file(`disk${CASES}`))),
  });
});
