import type { DomId } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { ForeignDomain, HypervisorConnection } from './connection.ts';
import { type DomainMemory, createLocalDomainMemory } from './domain-memory.ts';
import { HypercallError } from './errors.ts';
import type {
  DomainConfig,
  DomainProgram,
  HypercallOp,
  HypercallResult,
  Hypercalls,
  MapAccess,
  ShutdownReason,
  StartInfo,
} from './hypercalls.ts';
import { type DomainResources, Hypervisor } from './hypervisor.ts';

export interface LocalMachineOptions {
  /** Runs a domain's program; what it returns or awaits to is when the program has started. */
  launch(connection: HypervisorConnection): void | Promise<void>;
  readonly onConsole?: (domain: DomId, record: unknown) => void;
  onDomainEnd?(domain: DomId, reason: ShutdownReason, detail: string): void;
}

/** A machine whose domains all live in this thread, on ordinary ArrayBuffers: for tests, simulation and the browser. */
export interface LocalMachine {
  readonly hypervisor: Hypervisor;
  /** The connection of a running domain. */
  connection(domain: DomId): HypervisorConnection | undefined;
  /** Sends a message to the program of a domain; rejects with `HypercallError` when it takes none. */
  request(domain: DomId, message: unknown): Promise<unknown>;
}

export function createLocalMachine(options: LocalMachineOptions): LocalMachine {
  const resources = new Map<DomainResources, LocalDoorbell>();
  const trapServers: TrapServers = new Map();
  const connections = new Map<DomId, LocalConnection>();
  const hypervisor = new Hypervisor({
    createResources: (config: DomainConfig) => {
      const memory = createLocalDomainMemory(config.ramSize);
      const doorbell = new LocalDoorbell();
      const made: DomainResources = {
        memory,
        ring: () => doorbell.ring(),
        dispose: () => void resources.delete(made),
      };
      resources.set(made, doorbell);
      return made;
    },
    launch: async (domain, program, startInfo) => {
      const own = hypervisor.resourcesOf(domain)!;
      const connection = new LocalConnection(hypervisor, domain, own, resources.get(own)!, trapServers, {
        program,
        startInfo,
      });
      connections.set(domain, connection);
      await options.launch(connection);
    },
    onConsole: options.onConsole,
    onDomainEnd: (domain, reason, detail) => {
      connections.get(domain)?.ended(detail);
      connections.delete(domain);
      trapServers.delete(domain);
      options.onDomainEnd?.(domain, reason, detail);
    },
  });
  return {
    hypervisor,
    connection: (domain) => connections.get(domain),
    request: async (domain, message) => {
      const connection = connections.get(domain);
      if (connection === undefined)
        throw new HypercallError('ESRCH', 'request', `Domain ${domain} does not run`);
      return await connection.request(message);
    },
  };
}

/** By the domain that traps. */
type TrapServers = Map<DomId, { readonly server: DomId; readonly serve: () => void }>;

/** Rings may come before the domain listens: they are kept. */
class LocalDoorbell {
  #ring: (() => void) | undefined;
  #rung = false;

  ring(): void {
    if (this.#ring === undefined) this.#rung = true;
    else this.#ring();
  }

  attach(ring: (() => void) | undefined): void {
    this.#ring = ring;
    if (ring !== undefined && this.#rung) {
      this.#rung = false;
      ring();
    }
  }
}

class LocalConnection implements HypervisorConnection {
  readonly domain: DomId;
  readonly memory: DomainMemory & { readonly ram: MemoryRegion };
  readonly program: DomainProgram;
  readonly startInfo: StartInfo;
  readonly #hypervisor: Hypervisor;
  readonly #doorbell: LocalDoorbell;
  readonly #trapServers: TrapServers;
  readonly #foreign = new Map<string, ForeignDomain>();
  readonly #goneHandlers = new Set<(domain: DomId) => void>();
  readonly #goneSubscription: Disposable;
  #onRequest: ((message: unknown) => unknown) | undefined;
  #onClose: ((reason: string) => void) | undefined;
  #closed: string | undefined;

  constructor(
    hypervisor: Hypervisor,
    domain: DomId,
    resources: DomainResources,
    doorbell: LocalDoorbell,
    trapServers: TrapServers,
    start: { readonly program: DomainProgram; readonly startInfo: StartInfo },
  ) {
    this.#hypervisor = hypervisor;
    this.#doorbell = doorbell;
    this.domain = domain;
    this.memory = resources.memory;
    this.program = start.program;
    this.startInfo = start.startInfo;
    this.#trapServers = trapServers;
    this.#goneSubscription = hypervisor.onDomainGone((gone) => this.#domainGone(gone));
  }

  async call<Op extends HypercallOp>(
    op: Op,
    ...args: Parameters<Hypercalls[Op]>
  ): Promise<HypercallResult<Op>> {
    if (this.#closed !== undefined) throw new HypercallError('ECONNRESET', op, this.#closed);
    return this.#hypervisor.hypercall(this.domain, op, args) as HypercallResult<Op>;
  }

  async mapDomain(domain: DomId, access: MapAccess): Promise<ForeignDomain> {
    const held = this.foreign(domain, access);
    if (held !== undefined) return held;
    await this.call('map_domain', domain, access);
    const resources = this.#hypervisor.resourcesOf(domain);
    if (resources === undefined) throw new HypercallError('ESRCH', 'map_domain', `Domain ${domain} ended`);
    const { memory, ring } = resources;
    const foreign: ForeignDomain = {
      domain,
      memory: access === 'memory' ? memory : { xen: memory.xen, ram: undefined },
      ring,
    };
    this.#foreign.set(`${domain} ${access}`, foreign);
    return foreign;
  }

  foreign(domain: DomId, access: MapAccess): ForeignDomain | undefined {
    return (
      this.#foreign.get(`${domain} memory`) ??
      (access === 'events' ? this.#foreign.get(`${domain} events`) : undefined)
    );
  }

  async unmapDomain(domain: DomId): Promise<void> {
    if (this.#forget(domain)) await this.call('unmap_domain', domain);
  }

  attachDoorbell(aio: AioContext, poll: () => boolean): Disposable {
    const notifier = aio.createEventNotifier();
    const handler = aio.addHandler(notifier, { onReady: () => notifier.testAndClear() && poll() });
    const poller = aio.addPoller({ poll });
    this.#doorbell.attach(() => notifier.set());
    return {
      [Symbol.dispose]: () => {
        this.#doorbell.attach(undefined);
        poller[Symbol.dispose]();
        handler[Symbol.dispose]();
        notifier[Symbol.dispose]();
      },
    };
  }

  async serveTraps(domain: DomId, serve: () => void): Promise<void> {
    await this.call('ioreq_server_create', domain);
    this.#trapServers.set(domain, { server: this.domain, serve });
  }

  trap(_aio: AioContext, _deviceModel: ForeignDomain, done: () => boolean): boolean {
    const model = this.#trapServers.get(this.domain);
    if (model !== undefined && this.#hypervisor.resourcesOf(model.server) !== undefined) model.serve();
    return done();
  }

  onDomainGone(handler: (domain: DomId) => void): Disposable {
    this.#goneHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#goneHandlers.delete(handler) };
  }

  onRequest(handler: ((message: unknown) => unknown) | undefined): void {
    this.#onRequest = handler;
  }

  async request(message: unknown): Promise<unknown> {
    if (this.#onRequest === undefined) {
      throw new HypercallError('EOPNOTSUPP', 'request', `Domain ${this.domain} takes no requests`);
    }
    return await this.#onRequest(message);
  }

  onClose(handler: (reason: string) => void): void {
    this.#onClose = handler;
  }

  close(): void {
    if (this.#closed === undefined) this.#hypervisor.destroyDomain(this.domain, 'poweroff', 'It ended');
  }

  /** The hypervisor's side ended this domain. */
  ended(detail: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = detail;
    this.#goneSubscription[Symbol.dispose]();
    this.#onClose?.(detail);
  }

  #domainGone(domain: DomId): void {
    if (this.#forget(domain)) for (const handler of this.#goneHandlers) handler(domain);
  }

  #forget(domain: DomId): boolean {
    const memory = this.#foreign.delete(`${domain} memory`);
    return this.#foreign.delete(`${domain} events`) || memory;
  }
}
