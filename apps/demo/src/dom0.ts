// The program of domain 0: xenstored, the toolstack, and the devices of all guests.
import { type Dom0Services, type Domain, type Guest, startDom0 } from '@virtlab/domain';
import type { VirtioDevice } from '@virtlab/virtio';
import { createBlkDevice } from '@virtlab/virtio-blk';
import { type RawFileBackend, openRawFileBackend } from '@virtlab/virtio-blk/node';
import {
  type LearningSwitch,
  createHostPort,
  createLearningSwitch,
  createNetDevice,
  joinPorts,
} from '@virtlab/virtio-net';
import { type PcapFile, type TapPort, createPcapFile, createTapPort } from '@virtlab/virtio-net/node';
import { createRngDevice } from '@virtlab/virtio-rng';
import { nodeCryptoSource } from '@virtlab/virtio-rng/node';
import {
  type CreatedGuest,
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
/** In the order in which they are plugged. */
const DEVICE_ROLES = ['rng', 'net', 'blk'] as const;

type DeviceRole = (typeof DEVICE_ROLES)[number];

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const dom0 = new Dom0(domain, await startDom0(domain), args as Dom0Arguments);
  domain.connection.onRequest(serve(dom0.requests()));
  domain.console({ kind: 'up', sinceStartMs: domain.aio.now() });
}

interface RunningGuest {
  readonly guest: Guest;
  readonly disk: RawFileBackend | undefined;
}

class Dom0 {
  readonly #domain: Domain;
  readonly #services: Dom0Services;
  readonly #switch: LearningSwitch;
  readonly #station: NetworkStation;
  readonly #capture: PcapFile | undefined;
  readonly #tap: TapPort | undefined;
  readonly #guests = new Map<number, RunningGuest>();

  constructor(domain: Domain, services: Dom0Services, args: Dom0Arguments) {
    this.#domain = domain;
    this.#services = services;
    this.#capture = args.pcap === undefined ? undefined : createPcapFile(args.pcap);
    this.#switch = createLearningSwitch({
      now: () => domain.aio.now(),
      ...(this.#capture && { capture: this.#capture }),
    });
    const port = createHostPort(this.#switch, 'dom0');
    this.#station = new NetworkStation(domain.aio, port, { mac: parseMac(args.mac), ip: parseIp(args.ip) });
    this.#tap = args.tap === undefined ? undefined : createTapPort({ aio: domain.aio, name: args.tap });
    if (this.#tap !== undefined) joinPorts(this.#switch.addPort('tap'), this.#tap);
  }

  requests(): RequestTable<Dom0Requests> {
    return {
      create: ({ guest, disk }) => this.#create(guest, disk),
      tree: () => this.#tree(),
      udpCount: () => this.#station.takeUdpCount(),
      stopGuests: () => this.#stopGuests(),
      shutdown: () => this.#shutdown(),
    };
  }

  async #create(config: DomUArguments, disk: DiskConfig | undefined): Promise<CreatedGuest> {
    const start = this.#domain.aio.now();
    const backend = disk && (await openRawFileBackend(disk));
    const guest = await this.#services.toolstack.createGuest({
      name: `domU${config.index}`,
      type: config.transport === 'pci' ? 'hvm' : 'pv',
      ramSize: GUEST_RAM_SIZE,
      program: {
        module: new URL(import.meta.url.endsWith('.ts') ? './domu.ts' : './domu.js', import.meta.url).href,
        args: config,
      },
    });
    this.#guests.set(guest.domain, { guest, disk: backend });
    for (const [index, role] of DEVICE_ROLES.entries()) {
      const device = this.#createDevice(role, config, backend);
      if (device !== undefined)
        await this.#services.devices.plug(guest, index, device, `${guest.name} ${role}`);
    }
    await guest.start();
    return { domain: guest.domain, buildMs: this.#domain.aio.now() - start };
  }

  #createDevice(
    role: DeviceRole,
    config: DomUArguments,
    disk: RawFileBackend | undefined,
  ): VirtioDevice | undefined {
    switch (role) {
      case 'rng':
        return createRngDevice({ source: nodeCryptoSource });
      case 'net':
        return createNetDevice({
          mac: parseMac(config.mac),
          port: this.#switch.addPort(`domU${config.index}`),
        });
      case 'blk':
        return disk && createBlkDevice({ backend: disk, serial: `virtlab-${config.index}` });
    }
  }

  async #tree(): Promise<readonly string[]> {
    const lines: string[] = [];
    const visit = async (path: string): Promise<void> => {
      const value = await this.#services.xenstored.store.readText(path === '' ? '/' : path);
      if (path !== '') {
        const depth = path.split('/').length - 2;
        const name = path.slice(path.lastIndexOf('/') + 1);
        lines.push(`${'  '.repeat(depth)}${name}${value === '' ? '' : ` = ${JSON.stringify(value)}`}`);
      }
      for (const name of (
        await this.#services.xenstored.store.directory(path === '' ? '/' : path)
      ).toSorted()) {
        await visit(`${path}/${name}`);
      }
    };
    await visit('');
    return lines;
  }

  async #stopGuests(): Promise<StopAnswer> {
    const destroyed: number[] = [];
    for (const [domain, { guest, disk }] of this.#guests) {
      if (!(await this.#services.toolstack.shutdownGuest(guest, SHUTDOWN_TIMEOUT_MS))) destroyed.push(domain);
      await disk?.close();
      this.#switch.removePort(guest.name);
    }
    await this.#services.devices.idle();
    this.#guests.clear();
    return { destroyed, leaks: this.#leaks() };
  }

  async #shutdown(): Promise<readonly string[]> {
    await this.#services[Symbol.asyncDispose]();
    await this.#capture?.close();
    this.#tap?.[Symbol.dispose]();
    const leaks = this.#domain.leaks();
    setImmediate(() => void this.#domain.shutdown('poweroff')); // after the answer has left
    return leaks;
  }

  #leaks(): readonly string[] {
    const watches = this.#services.xenstored.daemon.server
      .statistics()
      .connections.filter(({ domid }) => domid !== this.#domain.id);
    return [...this.#domain.leaks(), ...watches.map(({ domid }) => `xenstored still serves domain ${domid}`)];
  }
}
