// Domain 0 of the mortality tests: makes guests, takes down what is left of them, and counts what it holds.
import type { DomId } from '@virtlab/abi/brands';
import { VIRTIO_XENBUS_KEY_PROFILE, VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { type Dom0Services, type Domain, type Guest, startDom0 } from '@virtlab/domain';
import { openFdCount } from '@virtlab/linux';
import { type LearningSwitch, createHostPort, createLearningSwitch } from '@virtlab/virtio-net';
import type { Xenstore } from '@virtlab/xenstore';
import { DEVICE_SPEC_KEY, type MadeDevice, STATION_MAC, makeDevice } from './devices.ts';
import { echoFrames } from '../echo-station.ts';
import type { Dom0Arguments, Dom0Request, GuestArguments, GuestSpec, Inventory } from './messages.ts';

const GUEST_RAM_SIZE = 32 << 20;

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { programs } = args as Dom0Arguments;
  const dom0 = new Dom0(domain, await startDom0(domain), programs);
  domain.connection.onRequest((message) => dom0.serve(message as Dom0Request));
  domain.console({ kind: 'up' });
}

interface RunningGuest {
  readonly guest: Guest;
  readonly spec: GuestSpec | undefined;
  readonly devices: readonly MadeDevice[];
}

class Dom0 {
  readonly #domain: Domain;
  readonly #services: Dom0Services;
  readonly #programs: string;
  readonly #network: LearningSwitch = createLearningSwitch();
  readonly #guests = new Map<DomId, RunningGuest>();

  constructor(domain: Domain, services: Dom0Services, programs: string) {
    this.#programs = programs;
    this.#domain = domain;
    this.#services = services;
    echoFrames(createHostPort(this.#network, 'station', { mac: STATION_MAC }), STATION_MAC);
  }

  async serve(request: Dom0Request): Promise<unknown> {
    const { toolstack } = this.#services;
    switch (request.op) {
      case 'create':
        return await this.#create(request.guest);
      case 'create driver domain':
        return await this.#createDriverDomain();
      case 'move':
        return await this.#attachTo(request.backendDomain, this.#of(request.domain));
      case 'destroy':
        await toolstack.destroyGuest(this.#of(request.domain).guest);
        return await this.#forget(request.domain);
      case 'shutdown': {
        const isClean = await toolstack.shutdownGuest(this.#of(request.domain).guest, request.timeoutMs);
        await this.#forget(request.domain);
        return isClean;
      }
      case 'inventory':
        return await this.#inventory();
      case 'end':
        await this.#services[Symbol.asyncDispose]();
        return this.#domain.leaks();
    }
  }

  async #create(spec: GuestSpec): Promise<DomId> {
    const { name, bus, role, devices, args, backendDomain } = spec;
    const guest = await this.#services.toolstack.createGuest({
      name,
      type: bus === 'pci' ? 'hvm' : 'pv',
      ramSize: GUEST_RAM_SIZE,
      program: { module: `${this.#programs}domu.js`, args: { bus, role, args } satisfies GuestArguments },
    });
    const made: MadeDevice[] = [];
    if (backendDomain === undefined) {
      for (const [index, each] of devices.entries()) {
        const device = await makeDevice(each, name, this.#network);
        made.push(device);
        await this.#services.devices.plug(guest, index, device.device, `${name} ${each.kind}`);
      }
    }
    const running: RunningGuest = { guest, spec, devices: made };
    this.#guests.set(guest.domain, running);
    if (backendDomain !== undefined) await this.#attachTo(backendDomain, running);
    await guest.start();
    return guest.domain;
  }

  /** The driver domain makes the devices, from what the toolstack writes into its directories. */
  async #attachTo(backendDomain: DomId, { guest, spec }: RunningGuest): Promise<void> {
    const profile = spec!.bus === 'xenbus-register-page' ? 'register-page' : 'native';
    for (const [index, device] of spec!.devices.entries()) {
      await this.#services.toolstack.attachXenbusDevice(guest, VIRTIO_XENBUS_KIND, index, {
        backendDomain,
        backend: { [VIRTIO_XENBUS_KEY_PROFILE]: profile, [DEVICE_SPEC_KEY]: JSON.stringify(device) },
      });
    }
  }

  async #createDriverDomain(): Promise<DomId> {
    const guest = await this.#services.toolstack.createGuest({
      name: 'driver-domain',
      type: 'pv',
      ramSize: GUEST_RAM_SIZE,
      program: { module: `${this.#programs}driver-domain.js`, args: null },
    });
    this.#guests.set(guest.domain, { guest, spec: undefined, devices: [] });
    await guest.start();
    return guest.domain;
  }

  async #forget(domain: DomId): Promise<void> {
    const { devices } = this.#of(domain);
    this.#guests.delete(domain);
    await this.#services.devices.idle();
    for (const device of devices) await device[Symbol.asyncDispose]();
  }

  #of(domain: DomId): RunningGuest {
    const found = this.#guests.get(domain);
    if (found === undefined) throw new RangeError(`Domain ${domain} is no guest of domain 0`);
    return found;
  }

  async #inventory(): Promise<Inventory> {
    const { store, daemon } = this.#services.xenstored;
    const { watchCount, connections } = daemon.server.statistics();
    const alive = new Set((await this.#domain.connection.call('domain_info')).map((info) => info.domain));
    return {
      ports: this.#domain.events.openPorts().length,
      orphanedMappings: this.#domain.grantMapper.live().filter(({ domain }) => !alive.has(domain)).length,
      watches: watchCount,
      served: connections.map(({ domid }) => domid).toSorted((a, b) => a - b),
      switchPorts: this.#network.ports.map(({ name }) => name),
      descriptors: openFdCount(),
      handlers: this.#domain.aio.leaks(),
      paths: await listPaths(store),
    };
  }
}

async function listPaths(store: Xenstore): Promise<readonly string[]> {
  const paths: string[] = [];
  const visit = async (path: string): Promise<void> => {
    for (const name of (await store.directory(path === '' ? '/' : path)).toSorted()) {
      paths.push(`${path}/${name}`);
      await visit(`${path}/${name}`);
    }
  };
  await visit('');
  return paths;
}
