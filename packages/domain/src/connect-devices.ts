import { VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { IdentityDmaMapper } from '@virtlab/guest-memory';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { assignBars, connectVirtioPci, enumeratePci } from '@virtlab/virtio-pci';
import {
  type ConnectVirtioXenbusOptions,
  type ReconnectVirtioXenbusOptions,
  type XenbusProfile,
  connectVirtioXenbus,
  reconnectVirtioXenbus,
} from '@virtlab/virtio-xenbus';
import { frontendsPath, isMissing } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';
import { DomainError } from './errors.ts';
import { type HvmPlatform, createHvmPlatform } from './hvm-platform.ts';

/** How a domain finds its virtio devices; over xenbus by which profile (see virtio-xenbus), `xenbus` being the native one. */
export type DeviceBus = 'pci' | 'xenbus' | 'xenbus-register-page';

/** A domain's virtio devices by VIRTIO device id, and what they need underneath. */
export interface DeviceLinks extends AsyncDisposable {
  readonly byType: ReadonlyMap<number, DriverLink>;
  /** Accesses that trapped to the device model; none over xenbus. */
  trapCount(): number;
  /**
   * For a device that went away, once its driver stopped: lets go of the link, waits until the device is there again (as
   * `reconnectVirtioXenbus`), and puts the new link in the place of the old one, for the driver to be initialised
   * with. Rejects with `TransportError`: `ENODEV` when there never was such a device, `ENOTSUP` over PCI, where a device
   * that comes back is another one, `ETIMEDOUT` after `waitMs`.
   */
  reconnect(deviceType: number, wait?: ReconnectWait): Promise<DriverLink>;
}

export type ReconnectWait = Pick<ReconnectVirtioXenbusOptions, 'waitMs' | 'signal'>;

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
    : await connectXenbusDevices(domain, store, profileOf(bus), options);
}

/** The profile that a bus stands for. */
export function profileOf(bus: Exclude<DeviceBus, 'pci'>): XenbusProfile {
  return bus === 'xenbus' ? 'native' : 'register-page';
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
    return new Links(
      links.map((link) => ({ link })),
      platform,
    );
  } catch (error) {
    await new Links(
      links.map((link) => ({ link })),
      platform,
    )[Symbol.asyncDispose]();
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
  profile: XenbusProfile,
  options: ConnectDevicesOptions,
): Promise<DeviceLinks> {
  const directory = frontendsPath(domain.id, VIRTIO_XENBUS_KIND);
  const { events, grants, ram, pages, aio } = domain;
  const connect = async (index: string): Promise<FoundDevice> => {
    const path = `${directory}/${index}`;
    const place = { store, path, events, grants, memory: ram, pages, aio, profile, ...options };
    return { place, link: await connectVirtioXenbus(place) };
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

interface FoundDevice {
  readonly link: DriverLink;
  /** Where it can be connected to again; none over PCI. */
  readonly place?: ConnectVirtioXenbusOptions;
}

class Links implements DeviceLinks {
  readonly #byType: Map<number, DriverLink>;
  readonly #places: ReadonlyMap<number, ConnectVirtioXenbusOptions | undefined>;
  readonly #platform: HvmPlatform | undefined;

  constructor(found: readonly FoundDevice[], platform: HvmPlatform | undefined) {
    this.#byType = new Map(found.map(({ link }) => [link.transport.deviceType, link]));
    this.#places = new Map(found.map(({ link, place }) => [link.transport.deviceType, place]));
    this.#platform = platform;
  }

  get byType(): ReadonlyMap<number, DriverLink> {
    return this.#byType;
  }

  trapCount(): number {
    return this.#platform?.statistics.trapCount ?? 0;
  }

  async reconnect(deviceType: number, wait: ReconnectWait = {}): Promise<DriverLink> {
    if (!this.#places.has(deviceType))
      throw new TransportError('ENODEV', `There never was a device of the type ${deviceType}`);
    const place = this.#places.get(deviceType);
    if (place === undefined)
      throw new TransportError('ENOTSUP', 'A PCI device that comes back is another one');
    const before = this.#byType.get(deviceType);
    this.#byType.delete(deviceType);
    if (before !== undefined) await letGo(before);
    const link = await reconnectVirtioXenbus({ ...place, ...wait });
    this.#byType.set(deviceType, link);
    return link;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.#byType.values()) await letGo(link);
    this.#platform?.[Symbol.dispose]();
  }
}

async function letGo(link: DriverLink): Promise<void> {
  try {
    await link[Symbol.asyncDispose]();
  } catch (error) {
    if (!(error instanceof TransportError)) throw error; // the device is gone: there is nobody to take leave of
  }
}
