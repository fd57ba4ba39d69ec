import { describe, expect, it } from 'vitest';
import { ACPI_PCIHP_EJECT_PORT } from '@virtlab/abi/pc-chipset';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import type { AioContext } from '@virtlab/aio';
import { createNodeAioContext } from '@virtlab/aio/node';
import type { DriverLink } from '@virtlab/virtio';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { createNetDriver } from '@virtlab/virtio-net';
import { connectVirtioPci } from '@virtlab/virtio-pci';
import { createRngDriver } from '@virtlab/virtio-rng';
import { QemuMachine, slotBdf } from './qemu-machine.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { settle } from './testing/shared-machine.ts';

const SLOT = 6;

/** A driver at work: `isBroken` once it knows that its device is gone. */
interface Work {
  readonly isBroken: () => boolean;
  end(): Promise<void>;
}

interface Plugged {
  readonly name: string;
  readonly deviceType: number;
  readonly add: Readonly<Record<string, unknown>>;
  work(link: DriverLink, aio: AioContext): Promise<Work>;
}

const PLUGGED: readonly Plugged[] = [
  {
    name: 'blk',
    deviceType: VIRTIO_ID_BLOCK,
    add: { driver: 'virtio-blk-pci', drive: 'd0' },
    work: async (link, aio) => {
      const driver = await createBlkDriver(link, { aio });
      await driver.read(0, new Uint8Array(4096));
      return { isBroken: () => driver.failure !== undefined, end: () => driver.close() };
    },
  },
  {
    name: 'net',
    deviceType: VIRTIO_ID_NET,
    add: { driver: 'virtio-net-pci', netdev: 'n0', romfile: '' },
    work: async (link, aio) => {
      const driver = await createNetDriver(link, { aio });
      return { isBroken: () => driver.failure !== undefined, end: () => driver.close() };
    },
  },
  {
    name: 'rng',
    deviceType: VIRTIO_ID_RNG,
    add: { driver: 'virtio-rng-pci' },
    work: async (link, aio) => {
      const driver = await createRngDriver(link, { aio });
      await driver.read(new Uint8Array(64));
      return { isBroken: () => driver.session.broken !== undefined, end: () => driver.stop() };
    },
  },
];

const devices = (): string[] => {
  // A -blockdev, for a -drive goes away with the device that it was for.
  return ['-blockdev', 'null-co,node-name=d0,read-zeroes=on', '-netdev', 'hubport,id=n0,hubid=0'];
};

async function withMachine(body: (machine: QemuMachine, aio: AioContext) => Promise<void>): Promise<void> {
  const aio = createNodeAioContext();
  const machine = new QemuMachine({ aio, machine: 'pc', devices });
  try {
    await body(machine, aio);
  } finally {
    const held = await machine.close();
    expect([held, aio.leaks()]).toEqual([[], []]);
    aio[Symbol.dispose]();
  }
}

async function plug(machine: QemuMachine, aio: AioContext, { add }: Plugged): Promise<DriverLink> {
  machine.execute('device_add', { ...add, id: 'plugged', addr: `${SLOT}.0` });
  machine.assignBars();
  const { access, interrupts, dma } = machine;
  return await connectVirtioPci({ access, bdf: slotBdf(SLOT), interrupts, dma, aio });
}

describeWithQemu('devices that come and go', () => {
  it.each(PLUGGED)('virtio-$name-pci plugged in works, and unplugged is gone', async (plugged) => {
    await withMachine(async (machine, aio) => {
      for (let round = 0; round < 2; round += 1) {
        const link = await plug(machine, aio, plugged);
        expect(link.transport.deviceType).toBe(plugged.deviceType);
        const work = await plugged.work(link, aio);
        machine.execute('device_del', { id: 'plugged' });
        expect(work.isBroken(), 'a request that we answer by ejecting').toBe(false);
        machine.access.portWrite(ACPI_PCIHP_EJECT_PORT, 4, 1 << SLOT);
        machine.qtest.settle();
        while (!work.isBroken()) {
          machine.pollEvents();
          await settle();
        }
        await work.end();
        await link[Symbol.asyncDispose]();
        expect(machine.events.some(({ event }) => event === 'DEVICE_DELETED')).toBe(true);
      }
    });
  });

  describe('a QEMU that is killed', () => {
    it.each(PLUGGED)('takes virtio-$name-pci with it, and the driver knows', async (plugged) => {
      await withMachine(async (machine, aio) => {
        const link = await plug(machine, aio, plugged);
        const work = await plugged.work(link, aio);
        machine.kill();
        while (!work.isBroken()) await settle();
        await work.end();
        await expect(link.transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
        await link[Symbol.asyncDispose]();
      });
    });
  });
});
