import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import type { Domain } from '@virtlab/domain';
import { type HvmPlatform, createHvmPlatform } from '@virtlab/domain';
import { IdentityDmaMapper } from '@virtlab/guest-memory';
import type { DriverLink } from '@virtlab/virtio';
import { assignBars, connectVirtioPci, enumeratePci } from '@virtlab/virtio-pci';
import { connectVirtioXenbus } from '@virtlab/virtio-xenbus';
import { frontendsPath } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { TransportName } from './messages.ts';

/** The virtio devices of a domain by VIRTIO device id, over whichever transport it has. */
export interface DeviceLinks extends AsyncDisposable {
  readonly byType: ReadonlyMap<number, DriverLink>;
  /** Accesses that trapped to the device model. */
  trapCount(): number;
}

export const DEVICE_NAMES: ReadonlyMap<number, string> = new Map([
  [VIRTIO_ID_RNG, 'virtio-rng'],
  [VIRTIO_ID_BLOCK, 'virtio-blk'],
  [VIRTIO_ID_NET, 'virtio-net'],
]);

/** Where the firmware of an x86 machine of this size would put PCI devices' memory. */
const PCI_WINDOW = { base: 0xe000_0000, size: 0x1000_0000 };

/** The only place of a domU's program that knows what its transport is. */
export async function connectDevices(
  domain: Domain,
  store: Xenstore,
  transport: TransportName,
): Promise<DeviceLinks> {
  return transport === 'pci' ? await connectPciDevices(domain) : await connectXenbusDevices(domain, store);
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
  const directory = frontendsPath(domain.id, 'virtio');
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
    for (const link of this.byType.values()) await link[Symbol.asyncDispose]();
    this.#platform?.[Symbol.dispose]();
  }
}
