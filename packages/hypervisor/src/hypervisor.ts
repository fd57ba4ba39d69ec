import { type DomId, type EvtchnPort, domId } from '@virtlab/abi/brands';
import { VIRQ_DOM_EXC } from '@virtlab/abi/event-channel';
import type { EventTarget } from '@virtlab/event-channel';
import { type PortTables, createPortTables } from '@virtlab/event-channel/hypervisor';
import type { MemoryRegion } from '@virtlab/guest-memory';
import {
  DEVICE_MODEL_ALIVE,
  DEVICE_MODEL_DEAD,
  DEVICE_MODEL_DOMAIN_SHIFT,
  type DomainMemory,
  XEN_PAGES,
  checkRamSize,
  eventTargetOf,
} from './domain-memory.ts';
import { HypercallError } from './errors.ts';
import { GrantTables } from './grant-tables.ts';
import { dispatchHypercall } from './hypercall-dispatch.ts';
import type {
  DomainConfig,
  DomainInfo,
  DomainProgram,
  HypercallOp,
  MapAccess,
  ShutdownReason,
  StartInfo,
} from './hypercalls.ts';

/** Highest port of an unprivileged domain unless its configuration says otherwise (xl.cfg, `max_event_channels`). */
const GUEST_PORT_MAX = 1023;

/** Memory and a way to wake, made by whoever hosts the machine: this process's own, or shared with domain processes. */
export interface DomainResources {
  readonly memory: DomainMemory & { readonly ram: MemoryRegion };
  /** Wakes the domain unless it is awake. */
  readonly ring: () => void;
  /** Gives everything back; the domain is gone. */
  dispose(): void;
}

export interface HypervisorOptions {
  createResources(config: DomainConfig): DomainResources;
  /** Starts the program of a domain; a rejection destroys the domain. */
  launch(domain: DomId, program: DomainProgram, startInfo: StartInfo): void | Promise<void>;
  /** Domains are processes that may run on for a moment after their end: `domainStopped` will be called for each. */
  readonly stopsLater?: boolean;
  readonly onConsole?: ((domain: DomId, record: unknown) => void) | undefined;
  /** After everything the domain held was released. */
  onDomainEnd?(domain: DomId, reason: ShutdownReason, detail: string): void;
}

interface DomainRecord {
  readonly id: DomId;
  readonly config: DomainConfig;
  readonly privileged: boolean;
  readonly resources: DomainResources;
  readonly target: EventTarget;
  /** Who maps our pages. */
  readonly mappedBy: Map<DomId, Set<MapAccess>>;
  state: DomainInfo['state'];
  shutdownReason: ShutdownReason | undefined;
  deviceModel: DomId | undefined;
  pid: number | undefined;
}

/**
 * One simulated machine: the domain table, all port tables, the bookkeeping of mappings. Everything here is control plane
 * and runs in one thread; several machines can live in one process.
 */
export class Hypervisor {
  readonly #options: HypervisorOptions;
  readonly #domains = new Map<DomId, DomainRecord>();
  readonly #ports: PortTables;
  readonly #grants: GrantTables = new GrantTables((domain) => this.isPrivileged(domain));
  readonly #goneHandlers = new Set<(domain: DomId) => void>();
  #nextDomain = 0;

  constructor(options: HypervisorOptions) {
    this.#options = options;
    this.#ports = createPortTables({
      domainExists: (domain) => this.#domains.has(domain),
      targetOf: (domain) => this.#domains.get(domain)?.target,
      isPrivileged: (domain) => this.#domains.get(domain)?.privileged ?? false,
      portCountMax: (domain) => {
        const record = this.#domains.get(domain);
        return (
          record?.config.portMax ?? (record?.privileged === true ? XEN_PAGES.portCount - 1 : GUEST_PORT_MAX)
        );
      },
      vcpuCount: (domain) => this.#domains.get(domain)?.config.vcpuCount ?? 1,
      isPaused: (domain) => this.#domains.get(domain)?.state === 'paused',
    });
  }

  /**
   * Makes a paused domain; the first one is domain 0 and privileged. Domain ids are never used twice in a machine's life:
   * peers may still hold the pages of a dead domain. Throws `RangeError` for a RAM size or grant limits that no domain can have, and
   * `HypercallError` ENOMEM when this machine cannot give it.
   */
  createDomain(config: DomainConfig): DomId {
    checkRamSize(config.ramSize);
    const id = domId(this.#nextDomain);
    const resources = this.#createResources(config);
    const { memory } = resources;
    this.#addGrantTable(id, resources, config.grantLimits);
    this.#nextDomain += 1;
    const target = eventTargetOf(memory.xen, () => resources.ring());
    this.#domains.set(id, {
      id,
      config,
      privileged: id === 0,
      resources,
      target,
      mappedBy: new Map(),
      state: 'paused',
      shutdownReason: undefined,
      deviceModel: undefined,
      pid: undefined,
    });
    this.#ports.addDomain(id, {
      region: memory.xen,
      offset: XEN_PAGES.portTable,
      portCount: XEN_PAGES.portCount,
    });
    return id;
  }

  #createResources(config: DomainConfig): DomainResources {
    try {
      return this.#options.createResources(config);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new HypercallError('ENOMEM', 'domain_create', `${config.ramSize} bytes of RAM: ${why}`);
    }
  }

  #addGrantTable(domain: DomId, resources: DomainResources, limits: DomainConfig['grantLimits']): void {
    try {
      this.#grants.addDomain(domain, resources.memory, limits);
    } catch (error) {
      resources.dispose();
      throw error;
    }
  }

  /** Starts a paused domain. Throws `HypercallError` ESRCH, or EINVAL if it is not paused. */
  unpauseDomain(domain: DomId, program: DomainProgram, startInfo: StartInfo): void {
    const record = this.#record(domain, 'domain_unpause');
    if (record.state !== 'paused') {
      throw new HypercallError('EINVAL', 'domain_unpause', `Domain ${domain} is ${record.state}`);
    }
    record.state = 'running';
    void this.#launch(record, program, startInfo);
  }

  async #launch(record: DomainRecord, program: DomainProgram, startInfo: StartInfo): Promise<void> {
    try {
      await this.#options.launch(record.id, program, startInfo);
    } catch (error) {
      this.destroyDomain(record.id, 'crash', `It could not be started: ${String(error)}`);
    }
  }

  /**
   * Ends a domain: its ports close, the pins it held on grants are released, whoever mapped it is told, VIRQ_DOM_EXC
   * is raised in domain 0. Idempotent.
   */
  destroyDomain(domain: DomId, reason: ShutdownReason, detail: string): void {
    const record = this.#domains.get(domain);
    if (record === undefined || record.state === 'dying') return;
    record.state = 'dying';
    this.#ports.removeDomain(domain, this.#options.stopsLater !== true);
    this.#domains.delete(domain);
    this.#grants.removeDomain(domain);
    for (const other of this.#domains.values()) {
      other.mappedBy.delete(domain);
      if (other.deviceModel === domain) this.#setDeviceModel(other, undefined, DEVICE_MODEL_DEAD);
    }
    for (const handler of this.#goneHandlers) handler(domain);
    record.resources.dispose();
    this.#ports.sendVirq(domId(0), VIRQ_DOM_EXC);
    this.#options.onDomainEnd?.(domain, record.shutdownReason ?? reason, detail);
  }

  /** Nothing of a domain that ended runs any more: what it left half sent is completed now, where domains stop later. */
  domainStopped(domain: DomId): void {
    if (!this.#domains.has(domain)) this.#ports.completeSends(domain);
  }

  /** One hypercall of `caller`, its arguments as they came. Throws `HypercallError`, also for malformed arguments. */
  hypercall(caller: DomId, op: string, args: readonly unknown[]): unknown {
    this.#record(caller, op);
    return dispatchHypercall(
      { hypervisor: this, ports: this.#ports, grants: this.#grants, caller },
      op as HypercallOp,
      args,
    );
  }

  isPrivileged(domain: DomId): boolean {
    return this.#domains.get(domain)?.privileged ?? false;
  }

  /** Notes how a domain is about to end. */
  announceShutdown(domain: DomId, reason: ShutdownReason): void {
    const record = this.#record(domain, 'domain_shutdown');
    record.state = 'shutdown';
    record.shutdownReason = reason;
  }

  setPid(domain: DomId, pid: number | undefined): void {
    const record = this.#domains.get(domain);
    if (record !== undefined) record.pid = pid;
  }

  domains(): readonly DomainInfo[] {
    return Array.from(this.#domains.values(), ({ id, config, state, shutdownReason, pid }) => ({
      domain: id,
      ...config,
      state,
      shutdownReason,
      pid,
    }));
  }

  /** The pages of `domain` for `caller`, after the permission check of `map_domain`. */
  mapDomain(caller: DomId, domain: DomId, access: MapAccess): DomainResources {
    const record = this.#record(domain, 'map_domain');
    if (access === 'memory' && caller !== domain && !this.isPrivileged(caller)) {
      if (!this.#grants.mayReach(caller, domain)) {
        throw new HypercallError(
          'EPERM',
          'map_domain',
          `Domain ${domain} granted nothing to domain ${caller}`,
        );
      }
    }
    const held = record.mappedBy.get(caller) ?? new Set<MapAccess>();
    held.add(access);
    record.mappedBy.set(caller, held);
    return record.resources;
  }

  unmapDomain(caller: DomId, domain: DomId): void {
    this.#domains.get(domain)?.mappedBy.delete(caller);
  }

  createIoreqServer(caller: DomId, domain: DomId): void {
    const record = this.#record(domain, 'ioreq_server_create');
    if (record.config.type !== 'hvm') {
      throw new HypercallError('EINVAL', 'ioreq_server_create', `Domain ${domain} is not HVM`);
    }
    if (record.deviceModel !== undefined) {
      throw new HypercallError(
        'EEXIST',
        'ioreq_server_create',
        `Domain ${record.deviceModel} serves domain ${domain}`,
      );
    }
    this.#setDeviceModel(record, caller, DEVICE_MODEL_ALIVE);
  }

  #setDeviceModel(record: DomainRecord, server: DomId | undefined, state: number): void {
    record.deviceModel = server;
    const word = state | ((server ?? 0) << DEVICE_MODEL_DOMAIN_SHIFT);
    Atomics.store(record.resources.memory.xen.i32, XEN_PAGES.deviceModelState / 4, word);
    record.resources.ring();
  }

  console(domain: DomId, record: unknown): void {
    this.#options.onConsole?.(domain, record);
  }

  /** The handler runs for every domain that ends, before its resources are given back. */
  onDomainGone(handler: (domain: DomId) => void): Disposable {
    this.#goneHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#goneHandlers.delete(handler) };
  }

  /** The domain's own resources, for the host that made them. */
  resourcesOf(domain: DomId): DomainResources | undefined {
    return this.#domains.get(domain)?.resources;
  }

  /** What a quiescent machine must not have: domains, and what peers still hold of the living ones. */
  leaks(): readonly string[] {
    const found: string[] = [];
    for (const { id, config, mappedBy } of this.#domains.values()) {
      found.push(`domain ${id} (${config.name})`);
      for (const [mapper, access] of mappedBy)
        found.push(`domain ${mapper} maps ${[...access].join('+')} of domain ${id}`);
      for (const port of this.openPorts(id)) found.push(`domain ${id} has event channel port ${port} open`);
    }
    return found;
  }

  openPorts(domain: DomId): readonly EvtchnPort[] {
    return this.#ports.openPorts(domain);
  }

  #record(domain: DomId, op: string): DomainRecord {
    const record = this.#domains.get(domain);
    if (record === undefined) throw new HypercallError('ESRCH', op, `There is no domain ${domain}`);
    return record;
  }
}
