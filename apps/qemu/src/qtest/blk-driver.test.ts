import { afterAll, describe, expect, it } from 'vitest';
import { VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { hasFeature } from '@virtlab/abi/virtio';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type BlkDriverSetup, describeBlkDriver } from '@virtlab/virtio-blk/conformance';
import type { ConnectVirtioPciOptions } from '@virtlab/virtio-pci';
import { words } from './testing/command-line.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { DiskFile, driveArguments } from './testing/disk-file.ts';
import { SharedMachine, settle } from './testing/shared-machine.ts';

const CAPACITY = 2048;
const SECTOR = VIRTIO_BLK_SECTOR_SIZE;
const QUEUE_COUNT = 4;
/** Which slot has which kind of device. */
const MODERN = 3;
const TRANSITIONAL = 4;
const LEGACY = 5;
const READ_ONLY = 6;
const GROWING = 7;

const DEVICES: readonly (readonly [slot: number, properties: string])[] = [
  [MODERN, `disable-legacy=on,packed=on,num-queues=${QUEUE_COUNT},serial=modern-0`],
  [TRANSITIONAL, 'num-queues=1,serial=transitional-0'],
  [LEGACY, 'disable-modern=on,num-queues=2,serial=legacy-0'],
  [READ_ONLY, 'logical_block_size=4096,physical_block_size=4096,min_io_size=4096,opt_io_size=65536'],
  [GROWING, 'write-cache=off'],
];

function devices(disks: readonly DiskFile[], pass: (fd: number) => number): string[] {
  return DEVICES.flatMap(([slot, properties], index) => {
    const options = slot === READ_ONLY ? ',read-only=on' : '';
    return [
      ...driveArguments(`d${slot}`, pass(disks[index]!.fd), options),
      ...words(`-device virtio-blk-pci,drive=d${slot},id=b${slot},addr=${slot},${properties}`),
    ];
  });
}

describeWithQemu("our blk driver on QEMU's virtio-blk-pci", () => {
  const disks = DEVICES.map(() => new DiskFile(new Uint8Array(CAPACITY * SECTOR)));
  const shared = new SharedMachine({ devices: (pass) => devices(disks, pass) });
  afterAll(() => {
    for (const disk of disks) disk[Symbol.dispose]();
  });

  const setup = (
    name: string,
    slot: number,
    serial: string,
    queueCount: number = 1,
    registers: NonNullable<ConnectVirtioPciOptions['registers']> = 'bars',
  ): BlkDriverSetup => ({
    name,
    serial,
    queueCount,
    capacitySectors: CAPACITY,
    create: async () => {
      const under = await shared.foreign(slot, registers);
      const disk = disks[DEVICES.findIndex(([other]) => other === slot)]!;
      return { ...under, contents: () => disk.contents() };
    },
  });
  describeBlkDriver(setup('modern, packed=on, four queues', MODERN, 'modern-0', QUEUE_COUNT));
  describeBlkDriver(setup('transitional, modern registers', TRANSITIONAL, 'transitional-0'));
  describeBlkDriver(setup('transitional, legacy registers', TRANSITIONAL, 'transitional-0', 1, 'legacy'));
  describeBlkDriver(setup('legacy, two queues', LEGACY, 'legacy-0', 2, 'legacy'));

  describe('what one device has', () => {
    const withDriver = async (slot: number, body: (driver: BlkDriver) => Promise<void>): Promise<void> => {
      await using link = await shared.connect(slot);
      await using driver = await createBlkDriver(link, { aio: shared.aio });
      await body(driver);
    };

    it('§5.2.6.1 a read-only disk of blocks of 4096 bytes is one', async () => {
      await withDriver(READ_ONLY, async (driver) => {
        expect([driver.readOnly, driver.blockSize]).toEqual([true, 4096]);
        expect(driver.topology).toMatchObject({ minIoSize: 1, optIoSize: 16 });
        await driver.read(8, new Uint8Array(8 * SECTOR));
        await expect(driver.write(8, new Uint8Array(8 * SECTOR))).rejects.toMatchObject({ code: 'EROFS' });
      });
    });

    it('§5.2.6.2 a write cache that is off makes it a disk that writes through', async () => {
      await withDriver(GROWING, async (driver) => {
        expect(hasFeature(driver.features, VIRTIO_BLK_F_CONFIG_WCE)).toBe(true);
        expect(driver.isWriteThrough).toBe(true);
        expect(await driver.setWriteback(true)).toBe(true);
        expect(driver.isWriteThrough).toBe(false);
        expect(await driver.setWriteback(false)).toBe(false);
      });
    });

    it('§5.2.5 the driver follows a disk that grows and shrinks, by configuration change calls', async () => {
      await withDriver(GROWING, async (driver) => {
        const seen: number[] = [];
        driver.onCapacityChange((sectors) => seen.push(sectors));
        for (const capacity of [2 * CAPACITY, CAPACITY / 2, CAPACITY]) {
          shared.machine.execute('block_resize', { device: `d${GROWING}`, size: capacity * SECTOR });
          while (seen.at(-1) !== capacity) await settle();
          expect(driver.capacitySectors).toBe(capacity);
          await driver.read(capacity - 1, new Uint8Array(SECTOR));
        }
        expect(seen).toEqual([2 * CAPACITY, CAPACITY / 2, CAPACITY]);
      });
    });

    it('§5.2.6 a discard gives the memory of the image back', async () => {
      const disk = disks[0]!;
      await withDriver(MODERN, async (driver) => {
        await driver.write(0, new Uint8Array(CAPACITY * SECTOR).fill(1));
        const full = disk.allocatedSize;
        await driver.discard(0, CAPACITY);
        await driver.flush();
        expect(disk.allocatedSize).toBeLessThan(full);
        const target = new Uint8Array(SECTOR).fill(9);
        await driver.read(CAPACITY - 1, target);
        expect(target.every((byte) => byte === 0)).toBe(true);
      });
    });
  });
});
