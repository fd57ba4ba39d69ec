import { IdentityDmaMapper } from '@virtlab/guest-memory';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { assignBars, connectVirtioPci, enumeratePci } from '@virtlab/virtio-pci';
import { connectVirtioXenbus } from '@virtlab/virtio-xenbus';
import { frontendsPath } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';
import { type HvmPlatform, createHvmPlatform } from './hvm-platform.ts';

/** How a domain finds its virtio devices. */
export type DeviceBus = 'pci' | 'xenbus';

/** A domain's virtio devices by VIRTIO device id, and what they need underneath. */
export interface DeviceLinks extends AsyncDisposable {
  readonly byType: ReadonlyMap<number, DriverLink>;
  /** Accesses that trapped to the device model; none over xenbus. */
  trapCount(): number;
}

/** Where the firmware of a small x86 machine puts the memory of PCI devices. */
const PCI_WINDOW = { base: 0xe000_0000, size: 0x1000_0000 };
const XENBUS_KIND = 'virtio';

/**
 * Connects every virtio device of this domain. What comes back is the same for both buses: the only place where a domain's
 * code knows its transport. Rejects with `TransportError` or `DomainError`.
 */
export async function connectDevices(domain: Domain, store: Xenstore, bus: DeviceBus): Promise<DeviceLinks> {
  return bus === 'pci' ? await connectPciDevices(domain) : await connectXenbusDevices(domain, store);
}

async function connectPciDevices(domain: Domain): Promise<DeviceLinks> {
  const platform = await createHvmPlatform(domain);
  const { access, interrupts, kicks } = platform;
  assignBars(access, PCI_WINDOW);
  const links: DriverLink[] = [];
  for (const { bdf } of enumeratePci(access)) {
    const dma = new IdentityDmaMapper(domain.ram, { pages: domain.pages });
    links.push(await connectVirtioPci({ access, bdf, interrupts, kicks, dma, aio: domain.aio }));
  }
  return new Links(links, platform);
}

async function connectXenbusDevices(domain: Domain, store: Xenstore): Promise<DeviceLinks> {
  const directory = frontendsPath(domain.id, XENBUS_KIND);
  const { events, grants, ram, pages, aio } = domain;
  const connect = (index: string): Promise<DriverLink> =>
    connectVirtioXenbus({ store, path: `${directory}/${index}`, events, grants, memory: ram, pages, aio });
  return new Links(await Promise.all((await store.directory(directory)).map(connect)), undefined);
}

class Links implements DeviceLinks {
  readonly byType: ReadonlyMap<number, DriverLink>;
  readonly #platform: HvmPlatform | undefined;

  constructor(links: readonly DriverLink[], platform: HvmPlatform | undefined) {
    this.byType = new Map(links.map((link) => [link.transport.deviceType, link]));
    this.#platform = platform;
  }

  trapCount(): number {
    return this.#platform?.statistics.trapCount ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.byType.values()) {
      try {
        await link[Symbol.asyncDispose]();
      } catch (error) {
        if (!(error instanceof TransportError)) throw error; // the device is gone: there is nobody to take leave of
      }
    }
    this.#platform?.[Symbol.dispose]();
  }
}
