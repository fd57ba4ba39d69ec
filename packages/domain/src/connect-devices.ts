import { VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { IdentityDmaMapper } from '@virtlab/guest-memory';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { assignBars, connectVirtioPci, enumeratePci } from '@virtlab/virtio-pci';
import { connectVirtioXenbus } from '@virtlab/virtio-xenbus';
import { frontendsPath, isMissing } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';
import { DomainError } from './errors.ts';
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

export interface ConnectDevicesOptions {
  /**
   * For each step and each control operation: of a transport, and over PCI for a trapped access, which stops the domain for
   * as long. Default 5000.
   */
  readonly timeoutMs?: number;
}

/**
 * Connects every virtio device of this domain. What comes back is the same for both buses: the only place where a domain's
 * code knows its transport. Rejects with `TransportError` or `DomainError`; nothing is held then.
 */
export async function connectDevices(
  domain: Domain,
  store: Xenstore,
  bus: DeviceBus,
  options: ConnectDevicesOptions = {},
): Promise<DeviceLinks> {
  return bus === 'pci'
    ? await connectPciDevices(domain, options)
    : await connectXenbusDevices(domain, store, options);
}

async function connectPciDevices(domain: Domain, { timeoutMs }: ConnectDevicesOptions): Promise<DeviceLinks> {
  const platform = await createHvmPlatform(
    domain,
    timeoutMs === undefined ? {} : { trapTimeoutMs: timeoutMs },
  );
  const { access, interrupts, kicks } = platform;
  const { ram, pages, aio } = domain;
  const links: DriverLink[] = [];
  try {
    assignBars(access, PCI_WINDOW);
    for (const { bdf } of enumeratePci(access)) {
      const dma = new IdentityDmaMapper(ram, { pages });
      const resetTimeout = timeoutMs === undefined ? {} : { resetTimeoutMs: timeoutMs };
      links.push(await connectVirtioPci({ access, bdf, interrupts, kicks, dma, aio, ...resetTimeout }));
    }
    requireAnswered(domain, platform);
    return new Links(links, platform);
  } catch (error) {
    await new Links(links, platform)[Symbol.asyncDispose]();
    throw error;
  }
}

/** Slots that nobody answered for look empty. */
function requireAnswered({ id }: Domain, { statistics }: HvmPlatform): void {
  if (statistics.unansweredCount === 0) return;
  throw new DomainError('ENODEV', `The device model of domain ${id} does not answer`);
}

async function connectXenbusDevices(
  domain: Domain,
  store: Xenstore,
  options: ConnectDevicesOptions,
): Promise<DeviceLinks> {
  const directory = frontendsPath(domain.id, VIRTIO_XENBUS_KIND);
  const { events, grants, ram, pages, aio } = domain;
  const connect = (index: string): Promise<DriverLink> => {
    const path = `${directory}/${index}`;
    return connectVirtioXenbus({ store, path, events, grants, memory: ram, pages, aio, ...options });
  };
  const outcomes = await Promise.allSettled((await listDevices(store, directory)).map(connect));
  const links = new Links(
    outcomes.flatMap((each) => (each.status === 'fulfilled' ? each.value : [])),
    undefined,
  );
  const failed = outcomes.find((each) => each.status === 'rejected');
  if (failed === undefined) return links;
  await links[Symbol.asyncDispose]();
  throw failed.reason;
}

/** A domain without such a directory has no devices. */
async function listDevices(store: Xenstore, directory: string): Promise<readonly string[]> {
  try {
    return await store.directory(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw new TransportError('EIO', `Cannot list ${directory}`, { cause: error });
  }
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
