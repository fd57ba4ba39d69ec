import {
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  PCI_MSIX_CAP,
  PCI_MSIX_ENTRY,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from '@virtlab/abi/pci';
import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import { createAioContext } from '@virtlab/aio';
import { IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { XEN_PAGES, XEN_PAGES_SIZE } from '@virtlab/hypervisor';
import { type DeviceActivation, type VirtioDevice, initializeDevice } from '@virtlab/virtio';
import { assignBars, connectVirtioPci } from '@virtlab/virtio-pci';
import { describe, expect, it } from 'vitest';
import { createHvmPlatform } from './hvm-platform.ts';
import { IntxLines, intxLine } from './intx-lines.ts';
import { NO_VECTOR, msiMessage, msiVector } from './msi-message.ts';
import { createLocalSystem } from './testing/local-system.ts';

const APIC = 0xfee0_0000;

describe('MSI messages (Intel SDM 3 §11.11)', () => {
  it('every vector that a message can have goes there and back', () => {
    for (let vector = 0x10; vector <= 0xfe; vector += 1) {
      const { addressLow, addressHigh, data } = msiMessage(vector);
      expect(msiVector(addressLow, addressHigh, data)).toBe(vector);
    }
  });

  it.each([
    ['fixed delivery to APIC 0', APIC, 0, 0x41, 0x41],
    ['lowest priority', APIC | 8, 0, 0x141, 0x41],
    ['everybody', APIC | 0xff000, 0, 0x41, 0x41],
    ['logical destination 1 of the flat model', APIC | 0x1004, 0, 0x41, 0x41],
    ['several logical destinations', APIC | 0x7004, 0, 0x41, 0x41],
    ['level trigger, assert', APIC, 0, 0xc041, 0x41],
    ['reserved data bits', APIC, 0, 0xffff_0041, 0x41],
    ['level trigger, deassert', APIC, 0, 0x8041, NO_VECTOR],
    ['APIC 2, that of a second vCPU', APIC | 0x2000, 0, 0x41, NO_VECTOR],
    ['a logical destination without us', APIC | 0x2004, 0, 0x41, NO_VECTOR],
    ['everybody with the redirection hint', APIC | 0xff008, 0, 0x41, NO_VECTOR],
    ['SMI', APIC, 0, 0x241, NO_VECTOR],
    ['NMI', APIC, 0, 0x441, NO_VECTOR],
    ['INIT', APIC, 0, 0x541, NO_VECTOR],
    ['ExtINT', APIC, 0, 0x741, NO_VECTOR],
    ['a vector of an exception', APIC, 0, 0x0f, NO_VECTOR],
    ['vector 0, a PIRQ with Xen', APIC | 0x10000, 0, 0, NO_VECTOR],
    ['vector 255', APIC, 0, 0xff, NO_VECTOR],
    ['an address above 4 GiB', APIC, 1, 0x41, NO_VECTOR],
    ['memory', 0x1000, 0, 0x41, NO_VECTOR],
    ['the end of the range', 0xfef0_0000, 0, 0x41, NO_VECTOR],
  ])('%s', (_what, low, high, data, vector) => {
    expect(msiVector(low >>> 0, high, data >>> 0)).toBe(vector);
  });
});

describe('INTx lines of a domain', () => {
  const lines = () => {
    const xen = memoryRegion(new ArrayBuffer(XEN_PAGES_SIZE));
    const aio = createAioContext();
    let rings = 0;
    const line = (slot: number) => intxLine(xen, slot, () => void (rings += 1));
    return { xen, aio, line, attended: new IntxLines(xen, aio), rings: () => rings };
  };

  it('PCI §2.2.6 a handler runs for its slot while the line is up; only a rise rings', () => {
    const { line, attended, rings, xen, aio } = lines();
    const runs: string[] = [];
    for (const slot of [3, 31]) {
      attended.onLine(slot * 8, () => {
        runs.push(`${slot}`);
        line(slot).set(false);
        return true;
      });
    }
    expect(attended.poll()).toBe(false);
    line(31).set(true);
    line(4).set(true); // nobody attends
    expect(attended.poll()).toBe(true);
    expect(attended.poll()).toBe(false);
    expect([runs, rings()]).toEqual([['31'], 2]);
    expect(Atomics.load(xen.i32, XEN_PAGES.intxLines / 4)).toBe(1 << 4);
    attended[Symbol.dispose]();
    expect(aio.leaks()).toEqual([]);
  });

  it('the loop comes back while a line stays up, and shuts one that nobody wants', async () => {
    const { line, attended, aio } = lines();
    let runs = 0;
    const held = attended.onLine(8, () => {
      runs += 1;
      return false;
    });
    line(1).set(true);
    attended.poll();
    for (let turn = 0; turn < 5000 && attended.shutCount === 0; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([runs, attended.shutCount]).toEqual([1000, 1]);
    expect(attended.onLine(8, () => true)).toBeUndefined();
    held![Symbol.dispose]();
    expect(attended.onLine(8, () => true)).toBeDefined();
    expect(attended.onLine(9, () => true)).toBeUndefined();
    attended[Symbol.dispose]();
    aio[Symbol.dispose]();
  });
});

const SLOT = 3;
const WINDOW = { base: 0xe000_0000, size: 0x1000_0000 };
/** Table entry of configuration changes, as the driver assigns vectors. */
const CONFIG_ENTRY = 0;

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** An HVM domain whose device changes its configuration when told, for an interrupt. */
async function bootWithDevice() {
  const system = await createLocalSystem();
  let activation: DeviceActivation | undefined;
  const device: VirtioDevice = {
    deviceType: VIRTIO_ID_RNG,
    features: 0n,
    queueSizesMax: [8],
    configSize: 0,
    readConfig: () => {},
    activate: (activated) => void (activation = activated),
    processQueue: () => {},
    reset: () => {},
  };
  const { domain, guest } = await system.addGuest('hvm', 'hvm', async ({ deviceModel }) => {
    deviceModel!.addDevice(SLOT, { device, polling: false });
  });
  const platform = await createHvmPlatform(domain);
  const { access, interrupts, kicks } = platform;
  const table = assignBars(access, WINDOW).find(({ bar }) => bar === 1)!.address!;
  const dma = new IdentityDmaMapper(domain.ram, { pages: domain.pages });
  const link = await connectVirtioPci({ access, bdf: SLOT * 8, interrupts, kicks, dma, aio: domain.aio });
  const session = await initializeDevice(link, { aio: domain.aio, wanted: 0n, polling: false });
  let changes = 0;
  link.transport.onConfigChange(() => void (changes += 1));
  return {
    access,
    table,
    deviceModel: guest.deviceModel!,
    /** Has the device interrupt, and counts what arrived so far. */
    interrupt: async (): Promise<number> => {
      activation!.configChanged();
      await settle();
      return changes;
    },
    arrived: async (): Promise<number> => {
      await settle();
      return changes;
    },
    close: async () => {
      await session.stop();
      await link[Symbol.asyncDispose]();
      platform[Symbol.dispose]();
      return await system.close();
    },
  };
}

describe('MSI-X into a domain, masked across the trap (PCI §6.8.2)', () => {
  const control = CONFIG_ENTRY * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY.offset.vector_ctrl;

  it('a masked vector is pending, readable in the PBA, and arrives once when it is unmasked', async () => {
    const { access, table, interrupt, arrived, deviceModel, close } = await bootWithDevice();
    expect(await interrupt()).toBe(1);
    const pending = table + 0x800;
    access.memoryWrite(table + control, 4, PCI_MSIX_ENTRY_CTRL_MASKBIT);
    const before = deviceModel.statistics.messageCount;
    expect([await interrupt(), await interrupt()]).toEqual([1, 1]);
    expect([access.memoryRead(pending, 4), deviceModel.statistics.messageCount]).toEqual([1, before]);
    access.memoryWrite(table + control, 4, 0);
    expect([access.memoryRead(pending, 4), await arrived()]).toEqual([0, 2]);
    expect(deviceModel.statistics.messageCount).toBe(before + 1);
    expect(await close()).toEqual([]);
  });

  it('the function mask, and a missing bus master, hold messages back likewise', async () => {
    const { access, interrupt, arrived, close } = await bootWithDevice();
    const flags = 0x98 + PCI_MSIX_CAP.offset.flags;
    access.configWrite(SLOT * 8, flags, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    expect(await interrupt()).toBe(0);
    access.configWrite(SLOT * 8, flags, 2, PCI_MSIX_FLAGS_ENABLE);
    expect(await arrived()).toBe(1);
    const command = access.configRead(SLOT * 8, PCI_COMMAND, 2);
    access.configWrite(SLOT * 8, PCI_COMMAND, 2, command & ~PCI_COMMAND_MASTER);
    expect(await interrupt()).toBe(1);
    access.configWrite(SLOT * 8, PCI_COMMAND, 2, command);
    expect(await arrived()).toBe(2);
    expect(await close()).toEqual([]);
  });

  it('a message to nobody interrupts nobody, and is counted', async () => {
    const { access, table, interrupt, deviceModel, close } = await bootWithDevice();
    const data = table + CONFIG_ENTRY * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY.offset.data;
    const vector = access.memoryRead(data, 4);
    access.memoryWrite(data, 4, 0x400 | vector);
    expect([await interrupt(), deviceModel.statistics.strayMessageCount]).toEqual([0, 1]);
    access.memoryWrite(data, 4, vector);
    expect(await interrupt()).toBe(1);
    expect(await close()).toEqual([]);
  });
});

describe('trapped accesses of 8 bytes, and of ports', () => {
  it('8 bytes are one trap and two registers; ports without a device read all ones', async () => {
    const { access, deviceModel, close } = await bootWithDevice();
    const traps = deviceModel.statistics.trapCount;
    expect(access.memoryRead64(WINDOW.base + VIRTIO_PCI_COMMON_CFG.offset.queue_driver)).toBeGreaterThan(0n);
    expect(deviceModel.statistics.trapCount).toBe(traps + 1);
    expect(access.memoryRead64(0xc000_0000)).toBe(2n ** 64n - 1n);
    expect([access.portRead(0xcf8, 4), access.portRead(0x80, 1)]).toEqual([0xffff_ffff, 0xff]);
    access.portWrite(0x80, 1, 1);
    expect(await close()).toEqual([]);
  });
});
