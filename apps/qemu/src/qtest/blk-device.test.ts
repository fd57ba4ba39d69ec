import { afterAll } from 'vitest';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { type ForeignSetup, describeForeignDevice } from '@virtlab/virtio/conformance';
import type { ConnectVirtioPciOptions } from '@virtlab/virtio-pci';
import { words } from './testing/command-line.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { DiskFile, driveArguments } from './testing/disk-file.ts';
import { QEMU_DIVERGENCES } from './testing/divergences.ts';
import { RequestClient, patternDisk, readRequest } from './testing/request-client.ts';
import { SharedMachine } from './testing/shared-machine.ts';

const SECTOR_COUNT = 256;
const SLOT = 3;
const LEGACY_SLOT = 4;
const MODERN_SLOT = 5;

function setup(
  shared: SharedMachine,
  name: string,
  slot: number,
  registers: NonNullable<ConnectVirtioPciOptions['registers']> = 'bars',
): ForeignSetup {
  return {
    name: `blk, ${name}`,
    deviceType: VIRTIO_ID_BLOCK,
    queue: 0,
    create: () => shared.foreign(slot, registers),
    createClient: (session) => new RequestClient(session, 0, readRequest(SECTOR_COUNT)),
    divergences: {
      ...QEMU_DIVERGENCES,
      '§2.6.1 a queue that was reset alone works again':
        'virtio-blk of 7.2 does not wait for requests in flight, and uses their buffers in the new queue',
      '§2.1.2 the device MUST NOT consume': 'serves a queue as soon as it is enabled and kicked',
    },
    enduranceCount: slot === SLOT && registers === 'bars' ? 70_000 : 1000,
  };
}

describeWithQemu("QEMU's virtio-blk-pci", () => {
  const disk = new DiskFile(patternDisk(SECTOR_COUNT));
  const shared = new SharedMachine({
    devices: (pass) => {
      const fd = pass(disk.fd);
      return [
        ...driveArguments('d0', fd, ',read-only=on'),
        ...driveArguments('d1', fd, ',read-only=on'),
        ...driveArguments('d2', fd, ',read-only=on'),
        ...words(`
          -device virtio-blk-pci,drive=d0,addr=${SLOT},packed=on,num-queues=1
          -device virtio-blk-pci,drive=d1,addr=${LEGACY_SLOT},disable-modern=on,num-queues=1
          -device virtio-blk-pci,drive=d2,addr=${MODERN_SLOT},disable-legacy=on,vectors=2,num-queues=4
        `),
      ];
    },
  });
  afterAll(() => disk[Symbol.dispose]());
  describeForeignDevice(setup(shared, 'a vector each, packed=on', SLOT));
  describeForeignDevice(setup(shared, 'a legacy device', LEGACY_SLOT, 'legacy'));
  describeForeignDevice(setup(shared, 'a modern device, one vector for all queues', MODERN_SLOT));
});
