import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { IdentityDmaMapper } from '@virtlab/guest-memory';
import { type DeviceHost, TransportError, initializeDevice } from '@virtlab/virtio';
import { type TransportUnderTest, describeTransport } from '@virtlab/virtio/conformance';
import { type CallMode, assignBars, connectVirtioPci, enumeratePci } from '@virtlab/virtio-pci';
import { expect, it } from 'vitest';
import type { DeviceModelServer } from './device-model.ts';
import { createHvmPlatform } from './hvm-platform.ts';
import { createLocalSystem } from './testing/local-system.ts';

const SLOT = 3;
const WINDOW = { base: 0xe000_0000, size: 0x1000_0000 };

type Device = ConstructorParameters<typeof DeviceHost>[0]['device'];
type PciOptions = NonNullable<Parameters<DeviceModelServer['addDevice']>[1]['pci']>;

interface HvmVariant {
  readonly pci?: PciOptions;
  readonly callMode?: CallMode;
  readonly registers?: 'bars' | 'window';
}

async function connect(device: Device, variant: HvmVariant = {}): Promise<TransportUnderTest> {
  const system = await createLocalSystem();
  let host: DeviceHost | undefined;
  const { domain, guest } = await system.addGuest('hvm', 'hvm', async ({ deviceModel }) => {
    host = deviceModel!.addDevice(SLOT, { device, onError: () => {}, pci: variant.pci ?? {} });
  });
  const platform = await createHvmPlatform(domain);
  const { access, interrupts, kicks } = platform;
  assignBars(access, WINDOW);
  const { bdf } = enumeratePci(access)[0]!;
  const dma = new IdentityDmaMapper(domain.ram, { pages: domain.pages });
  const { registers = 'bars', callMode = 'msix-per-queue' } = variant;
  const link = await connectVirtioPci({ access, bdf, interrupts, kicks, dma, aio: domain.aio, registers });
  expect(link.transport.callMode).toBe(callMode);
  return {
    link,
    driverAio: domain.aio,
    host: host!,
    settle,
    removeDevice: () => guest.deviceModel!.removeDevice(SLOT),
    close: async () => {
      try {
        await link[Symbol.asyncDispose]();
      } catch (error) {
        if (!(error instanceof TransportError)) throw error; // its device is gone: that is the point of some tests
      }
      platform[Symbol.dispose]();
      const leaks = domain.leaks();
      return [...leaks, ...(await system.close())];
    },
  };
}

/** Everything is in this thread: turns of its loop let both sides run until they have nothing to do. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describeTransport({
  name: 'virtio_pci of an HVM domain, trapped to domain 0',
  create: ({ device }) => connect(device),
});

describeTransport({
  name: 'virtio_pci of an HVM domain, INTx, a page for each kick address, registers through the window',
  create: ({ device }) => {
    const pci = { vectorCount: 0, notifyMultiplier: 4096 };
    return connect(device, { pci, callMode: 'intx', registers: 'window' });
  },
});

it('a domain without a device model finds no bus: ENODEV', async () => {
  const system = await createLocalSystem();
  const { domain } = await system.addGuest('pv', 'pv');
  await expect(createHvmPlatform(domain)).rejects.toMatchObject({ code: 'ENODEV' });
  expect(await system.close()).toEqual([]);
});

it('hvm/ioreq.h: kicks do not trap', async () => {
  const system = await createLocalSystem();
  let kicked = 0;
  const device: Device = {
    deviceType: VIRTIO_ID_RNG,
    features: 0n,
    queueSizesMax: [8],
    configSize: 0,
    readConfig: () => {},
    activate: () => {},
    processQueue: () => void (kicked += 1),
    reset: () => {},
  };
  const { domain } = await system.addGuest('hvm', 'hvm', async ({ deviceModel }) => {
    deviceModel!.addDevice(SLOT, { device, polling: false });
  });
  const platform = await createHvmPlatform(domain);
  const { access, interrupts, kicks } = platform;
  assignBars(access, WINDOW);
  const dma = new IdentityDmaMapper(domain.ram, { pages: domain.pages });
  const link = await connectVirtioPci({ access, bdf: SLOT * 8, interrupts, kicks, dma, aio: domain.aio });
  const session = await initializeDevice(link, { aio: domain.aio, wanted: 1n << 32n });
  await settle(); // the device looks once when it is activated
  const traps = platform.statistics.trapCount;
  const before = kicked;
  link.transport.kick(0);
  await settle();
  expect(kicked).toBe(before + 1);
  expect(platform.statistics.trapCount).toBe(traps);
  await session.stop();
  await link[Symbol.asyncDispose]();
  platform[Symbol.dispose]();
  expect(await system.close()).toEqual([]);
});
