import { readFileSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { hasFeature } from '@virtlab/abi/virtio';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type BlkDriverSetup, describeBlkDriver } from '@virtlab/virtio-blk/conformance';
import type { ConnectVirtioPciOptions } from '@virtlab/virtio-pci';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { SharedMachine } from '../qtest/testing/shared-machine.ts';
import { DaemonFolder } from './testing/daemons.ts';

const CAPACITY = 2048;
const SECTOR = VIRTIO_BLK_SECTOR_SIZE;

interface Card {
  readonly slot: number;
  /** Of QEMU's device, and of our daemon. */
  readonly properties: string;
  readonly options: string;
}

const PACKED: Card = {
  slot: 3,
  properties: 'disable-legacy=on,packed=on,num-queues=4',
  options: '--num-queues 4 --threads 2 --serial packed-0 --discard',
};
const TRANSITIONAL: Card = {
  slot: 4,
  properties: 'num-queues=1,queue-size=64',
  options: '--serial transitional-0 --discard --queue-size 64',
};
const LEGACY: Card = {
  slot: 5,
  properties: 'disable-modern=on,num-queues=2',
  options: '--num-queues 2 --threads 2 --serial legacy-0 --discard --poll-us 0',
};
const READ_ONLY: Card = { slot: 6, properties: 'num-queues=1', options: '--read-only --loop events' };
const MEMORY: Card = { slot: 7, properties: 'num-queues=1', options: '--backend memory --size 1M' };
const CARDS: readonly Card[] = [PACKED, TRANSITIONAL, LEGACY, READ_ONLY, MEMORY];

describeWithQemu("virtlab vhost-user-blk behind QEMU's vhost-user-blk-pci, under our driver", () => {
  const image = (slot: number): string => folder.file(`disk${slot}`);
  const folder = new DaemonFolder(async () => {
    await Promise.all(
      CARDS.map(async ({ slot, options }) => {
        writeFileSync(image(slot), new Uint8Array(CAPACITY * SECTOR));
        const file = options.includes('memory') ? [] : ['--blk-file', image(slot)];
        await folder.start(
          'vhost-user-blk',
          '--socket-path',
          folder.file(`s${slot}`),
          ...file,
          ...words(options),
        );
      }),
    );
  });
  const shared = new SharedMachine({
    devices: () =>
      CARDS.flatMap(({ slot, properties }) =>
        words(`
          -chardev socket,id=c${slot},path=${folder.file(`s${slot}`)}
          -device vhost-user-blk-pci,chardev=c${slot},addr=${slot},${properties}
        `),
      ),
  });

  const setup = (
    name: string,
    { slot }: Card,
    serial: string,
    queueCount: number = 1,
    registers: NonNullable<ConnectVirtioPciOptions['registers']> = 'bars',
  ): BlkDriverSetup => ({
    name,
    serial,
    queueCount,
    capacitySectors: CAPACITY,
    create: async () => ({
      ...(await shared.foreign(slot, registers)),
      contents: () => new Uint8Array(readFileSync(image(slot))),
    }),
  });
  describeBlkDriver(setup('packed=on, four queues', PACKED, 'packed-0', 4));
  describeBlkDriver(setup('transitional, modern registers', TRANSITIONAL, 'transitional-0'));
  describeBlkDriver(setup('transitional, legacy registers', TRANSITIONAL, 'transitional-0', 1, 'legacy'));
  describeBlkDriver(setup('legacy, two queues', LEGACY, 'legacy-0', 2, 'legacy'));

  const withDriver = async ({ slot }: Card, body: (driver: BlkDriver) => Promise<void>): Promise<void> => {
    await using link = await shared.connect(slot);
    await using driver = await createBlkDriver(link, { aio: shared.aio });
    await body(driver);
  };

  it('--read-only: the driver is told, and what it writes all the same is refused', async () => {
    await withDriver(READ_ONLY, async (driver) => {
      expect([driver.readOnly, hasFeature(driver.features, VIRTIO_BLK_F_DISCARD)]).toEqual([true, false]);
      await driver.read(8, new Uint8Array(8 * SECTOR));
      await expect(driver.write(8, new Uint8Array(8 * SECTOR))).rejects.toMatchObject({ code: 'EROFS' });
    });
  });

  it('--backend memory: what was written is there for the next driver; without --discard there is none', async () => {
    const bytes = new Uint8Array(8 * SECTOR).map((_, at) => at * 7);
    await withDriver(MEMORY, async (driver) => {
      expect(hasFeature(driver.features, VIRTIO_BLK_F_DISCARD)).toBe(false);
      await driver.write(100, bytes);
    });
    await withDriver(MEMORY, async (driver) => {
      const target = new Uint8Array(bytes.length);
      await driver.read(100, target);
      expect(target).toEqual(bytes);
    });
  });
});
