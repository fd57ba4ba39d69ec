// The program of domain 0: xenstored, the toolstack, and the devices of all guests.
import { type Domain, type Guest, type Toolstack, type XenstoredService, createToolstack, startXenstored } from '@virtlab/domain';
import type { DeviceHost, VirtioDevice } from '@virtlab/virtio';
import { createBlkDevice } from '@virtlab/virtio-blk';
import { type RawFileBackend, openRawFileBackend } from '@virtlab/virtio-blk/node';
import { type LearningSwitch, createHostPort, createLearningSwitch, createNetDevice } from '@virtlab/virtio-net';
import { type PcapFile, createPcapFile } from '@virtlab/virtio-net/node';
import { createRngDevice } from '@virtlab/virtio-rng';
import { nodeCryptoSource } from '@virtlab/virtio-rng/node';
import { type VirtioBackends, watchVirtioBackends } from '@virtlab/virtio-xenbus';
import {
  type CreatedGuest,
  type DeviceCounters,
  type DiskConfig,
  type Dom0Arguments,
  type Dom0Requests,
  type DomUArguments,
  type RequestTable,
  type StopAnswer,
  serve,
} from './messages.ts';
import { NetworkStation, parseIp, parseMac } from './station.ts';

const GUEST_RAM_SIZE = 64 << 20;
const SHUTDOWN_TIMEOUT_MS = 10_000;
/** Where the first device of a guest goes: a PCI slot, and a xenbus index. */
const FIRST_SLOT = 3;
const DEVICE_ROLES = ['rng', 'net', 'blk'] as const;

type DeviceRole = (typeof DEVICE_ROLES)[number];

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const services = await Dom0.start(domain, args as Dom0Arguments);
  domain.connection.onRequest(serve(services.requests()));
  domain.console({ kind: 'up', sinceStartMs: domain.aio.now() });
}

interface RunningGuest {
  readonly guest: Guest;
  readonly hosts: Map<DeviceRole, DeviceHost>;
  readonly disk: RawFileBackend | undefined;
}

class Dom0 {
  readonly #domain: Domain;
  readonly #xenstored: XenstoredService;
  readonly #toolstack: Toolstack;
  readonly #switch: LearningSwitch;
  readonly #station: NetworkStation;
  readonly #capture: PcapFile | undefined;
  readonly #guests = new Map<number, RunningGuest>();
  /** Devices that the toolstack promised, by `<frontend domain>/<index>`, until their backends connect. */
  readonly #promised = new Map<string, { role: DeviceRole; device: VirtioDevice; domain: number }>();
  #backends!: VirtioBackends;

  private constructor(domain: Domain, xenstored: XenstoredService, args: Dom0Arguments) {
    this.#domain = domain;
    this.#xenstored = xenstored;
    this.#toolstack = createToolstack(domain, xenstored.store);
    this.#capture = args.pcap === undefined ? undefined : createPcapFile(args.pcap);
    this.#switch = createLearningSwitch({ now: () => domain.aio.now(), ...(this.#capture && { capture: this.#capture }) });
    const port = createHostPort(this.#switch, 'dom0');
    this.#station = new NetworkStation(domain.aio, port, { mac: parseMac(args.mac), ip: parseIp(args.ip) });
  }

  static async start(domain: Domain, args: Dom0Arguments): Promise<Dom0> {
    const xenstored = await startXenstored(domain);
    const dom0 = new Dom0(domain, xenstored, args);
    dom0.#backends = await watchVirtioBackends({
      store: xenstored.store,
      domain: domain.id,
      events: domain.events,
      grantMapper: domain.grantMapper,
      mapDomain: (peer) => domain.mapDomain(peer),
      aio: domain.aio,
      createDevice: ({ frontendDomain, index }) => dom0.#promised.get(`${frontendDomain}/${index}`)?.device,
      onHost: (host, { frontendDomain, index }) => {
        const promised = dom0.#promised.get(`${frontendDomain}/${index}`);
        if (promised !== undefined) dom0.#guests.get(frontendDomain)?.hosts.set(promised.role, host);
      },
    });
    return dom0;
  }

  requests(): RequestTable<Dom0Requests> {
    return {
      create: ({ guest, disk }) => this.#create(guest, disk),
      tree: () => this.#tree(),
      udpCount: () => this.#station.takeUdpCount(),
      stopGuests: () => this.#stopGuests(),
      deviceCounters: ({ domain }) => this.#counters(domain),
      shutdown: () => this.#shutdown(),
    };
  }

  async #create(config: DomUArguments, disk: DiskConfig | undefined): Promise<CreatedGuest> {
    const start = this.#domain.aio.now();
    const backend = disk && (await openRawFileBackend(disk.path, { readOnly: disk.readOnly }));
    const guest = await this.#toolstack.createGuest({
      name: `domU${config.index}`,
      type: config.transport === 'pci' ? 'hvm' : 'pv',
      ramSize: GUEST_RAM_SIZE,
      program: { module: new URL(import.meta.url.endsWith('.ts') ? './domu.ts' : './domu.js', import.meta.url).href, args: config },
    });
    const running: RunningGuest = { guest, hosts: new Map(), disk: backend };
    this.#guests.set(guest.domain, running);
    for (const [index, role] of DEVICE_ROLES.entries()) {
      const device = this.#createDevice(role, config, backend);
      if (device !== undefined) await this.#plug(running, role, index, device);
    }
    await guest.start();
    return { domain: guest.domain, buildMs: this.#domain.aio.now() - start };
  }

  #createDevice(role: DeviceRole, config: DomUArguments, disk: RawFileBackend | undefined): VirtioDevice | undefined {
    switch (role) {
      case 'rng':
        return createRngDevice({ source: nodeCryptoSource });
      case 'net':
        return createNetDevice({ mac: parseMac(config.mac), port: this.#switch.addPort(`domU${config.index}`) });
      case 'blk':
        return disk && createBlkDevice({ backend: disk, serial: `virtlab-${config.index}` });
    }
  }

  /** The same device either way: on the PCI bus of the guest's device model, or below a xenbus directory. */
  async #plug({ guest, hosts }: RunningGuest, role: DeviceRole, index: number, device: VirtioDevice): Promise<void> {
    const name = `${guest.name} ${role}`;
    if (guest.deviceModel !== undefined) {
      hosts.set(role, guest.deviceModel.addDevice(FIRST_SLOT + index, { device, name }));
      return;
    }
    this.#promised.set(`${guest.domain}/${index}`, { role, device, domain: guest.domain });
    await this.#toolstack.attachXenbusDevice(guest, 'virtio', index);
  }

  #counters(domain: number): DeviceCounters {
    const count = (role: DeviceRole): DeviceCounters['blk'] => {
      const queues = this.#guests.get(domain)?.hosts.get(role)?.statistics;
      if (queues === undefined) return undefined;
      const sum = (pick: (queue: (typeof queues)[number]) => number): number =>
        queues.reduce((total, queue) => total + pick(queue), 0);
      return { kicks: sum((q) => q.kicks), calls: sum((q) => q.calls), requests: sum((q) => q.requests) };
    };
    return { blk: count('blk'), net: count('net') };
  }

  async #tree(): Promise<readonly string[]> {
    const lines: string[] = [];
    const visit = async (path: string): Promise<void> => {
      const value = await this.#xenstored.store.readText(path === '' ? '/' : path);
      if (path !== '') lines.push(`${path} = ${JSON.stringify(value)}`);
      for (const name of (await this.#xenstored.store.directory(path === '' ? '/' : path)).toSorted()) {
        await visit(`${path}/${name}`);
      }
    };
    await visit('');
    return lines;
  }

  async #stopGuests(): Promise<StopAnswer> {
    const destroyed: number[] = [];
    for (const [domain, { guest, disk }] of this.#guests) {
      if (!(await this.#toolstack.shutdownGuest(guest, SHUTDOWN_TIMEOUT_MS))) destroyed.push(domain);
      await disk?.close();
      this.#switch.removePort(guest.name);
    }
    await this.#backends.idle();
    this.#guests.clear();
    this.#promised.clear();
    return { destroyed, leaks: this.#leaks() };
  }

  async #shutdown(): Promise<readonly string[]> {
    await this.#backends[Symbol.asyncDispose]();
    await this.#capture?.close();
    await this.#xenstored[Symbol.asyncDispose]();
    const leaks = this.#domain.leaks();
    setImmediate(() => void this.#domain.shutdown('poweroff')); // after the answer has left
    return leaks;
  }

  /** Domain 0's VIRQ port is its own; everything else belonged to guests. */
  #leaks(): readonly string[] {
    const watches = this.#xenstored.daemon.server.statistics().connections.filter(({ domid }) => domid !== this.#domain.id);
    return [
      ...this.#domain.leaks().filter((leak) => !leak.endsWith('event channel port 1')),
      ...watches.map(({ domid }) => `xenstored still serves domain ${domid}`),
    ];
  }
}
