import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import {
  GNTTAB_DEFAULT_MAX_MAPTRACK_FRAMES,
  GNTTAB_MAPTRACK_PER_PAGE,
  GNTTAB_NR_RESERVED_ENTRIES,
} from '@virtlab/abi/grant-table';
import type { AioContext, BottomHalf } from '@virtlab/aio';
import { type EventChannels, type EventTarget, createEventChannels } from '@virtlab/event-channel';
import {
  type CopyingGrantMapper,
  type GrantTableView,
  type VersionedGrantTable,
  createGrantMapper,
  createGrantTable,
  keepReclaiming,
  maptrackFramesMax,
} from '@virtlab/grant-table';
import { type MemoryRegion, PageAllocator } from '@virtlab/guest-memory';
import {
  type ForeignDomain,
  HypercallError,
  type HypervisorConnection,
  type MapAccess,
  PAGE_SIZE,
  type ShutdownReason,
  XEN_PAGES,
  eventHypercalls,
  eventTargetOf,
  grantTableOf,
} from '@virtlab/hypervisor';

/** What the code of a domain has: its memory, its ports, its grants, its event loop. */
export interface Domain extends AsyncDisposable {
  readonly id: DomId;
  readonly aio: AioContext;
  readonly connection: HypervisorConnection;
  readonly ram: MemoryRegion;
  /** Free frames of RAM; the last frame is xenstore's. */
  readonly pages: PageAllocator;
  readonly events: EventChannels;
  /** Of the version that the domain's table had at boot; deferred grants are retried by themselves. */
  readonly grants: VersionedGrantTable;
  readonly grantMapper: CopyingGrantMapper;
  /** The port is the platform's own, open as long as the domain lives: no leak. */
  keepPort(port: EvtchnPort): void;
  /**
   * Maps a peer's pages: `memory` once it granted us something, or if we are privileged. Rejects with `HypercallError`, ESRCH
   * when the peer is gone.
   */
  mapDomain(domain: DomId): Promise<ForeignDomain>;
  /** Runs what is pending now, for code that waits without the loop; answers whether there was anything. */
  poll(): boolean;
  /** `poll` is asked on every wake-up and while the loop polls; it answers whether it found something. */
  addUpcall(poll: () => boolean): Disposable;
  console(record: unknown): void;
  /** Announces the end and closes the connection. */
  shutdown(reason: ShutdownReason): Promise<void>;
  /** What is still held: ports, grants, mappings, pages, handlers. */
  leaks(): readonly string[];
}

/** Brings a domain up on its connection: everything that needs no other domain. */
export function bootDomain(connection: HypervisorConnection, aio: AioContext): Domain {
  return new BootedDomain(connection, aio);
}

class BootedDomain implements Domain {
  readonly id: DomId;
  readonly aio: AioContext;
  readonly connection: HypervisorConnection;
  readonly ram: MemoryRegion;
  readonly pages: PageAllocator;
  readonly events: EventChannels;
  readonly grants: VersionedGrantTable;
  readonly grantMapper: CopyingGrantMapper;
  readonly #platformPorts = new Set<EvtchnPort>();
  readonly #upcalls = new Set<() => boolean>();
  readonly #targets = new Map<DomId, EventTarget>();
  /** Looked up by the data plane for every map, so made once. */
  readonly #tables = new Map<DomId, GrantTableView>();
  #selfUpcall: BottomHalf | undefined;
  readonly #registrations: Disposable[] = [];

  constructor(connection: HypervisorConnection, aio: AioContext) {
    const { domain, memory } = connection;
    this.id = domain;
    this.aio = aio;
    this.connection = connection;
    this.ram = memory.ram;
    this.pages = new PageAllocator(0, memory.ram.size - PAGE_SIZE);
    const own = eventTargetOf(memory.xen, () => this.#wakeSelf());
    this.events = createEventChannels({
      domain,
      own,
      portTable: { region: memory.xen, offset: XEN_PAGES.portTable, portCount: XEN_PAGES.portCount },
      hypercalls: eventHypercalls(connection),
      peers: {
        target: (peer) => this.#targets.get(peer),
        connect: async (peer) => this.#target(await this.#map(peer, 'events')),
      },
    });
    const reservedCount = GNTTAB_NR_RESERVED_ENTRIES;
    const ownTable = grantTableOf(memory);
    const maptrackFrames = maptrackFramesMax(ownTable) ?? GNTTAB_DEFAULT_MAX_MAPTRACK_FRAMES;
    this.grants = createGrantTable({ domain, view: ownTable, reservedCount });
    this.grantMapper = createGrantMapper({
      domain,
      mapCountMax: maptrackFrames * GNTTAB_MAPTRACK_PER_PAGE,
      peers: { table: (peer) => this.#tables.get(peer) },
    });
    this.#tables.set(domain, ownTable);
    this.addUpcall(() => this.events.hasPending() && this.events.dispatch() > 0);
    this.#registrations.push(
      keepReclaiming(this.grants, { createTimer: (run) => aio.createTimer(run) }),
      connection.onDomainGone((peer) => {
        this.#targets.delete(peer);
        this.#tables.delete(peer);
      }),
      connection.attachDoorbell(aio, () => this.#runUpcalls()),
    );
  }

  async mapDomain(domain: DomId): Promise<ForeignDomain> {
    const foreign = await this.#map(domain, 'memory');
    const { xen, ram } = foreign.memory;
    if (ram !== undefined && !this.#tables.has(domain)) this.#tables.set(domain, grantTableOf({ xen, ram }));
    this.#target(foreign);
    return foreign;
  }

  keepPort(port: EvtchnPort): void {
    this.#platformPorts.add(port);
  }

  addUpcall(poll: () => boolean): Disposable {
    this.#upcalls.add(poll);
    return { [Symbol.dispose]: () => void this.#upcalls.delete(poll) };
  }

  poll(): boolean {
    return this.#runUpcalls();
  }

  console(record: unknown): void {
    this.connection.call('console_write', record).catch(() => {}); // the machine is gone: nobody reads it
  }

  async shutdown(reason: ShutdownReason): Promise<void> {
    await this.connection.call('domain_shutdown', reason);
    await this[Symbol.asyncDispose]();
    this.connection.close();
  }

  leaks(): readonly string[] {
    return [
      ...this.events
        .openPorts()
        .filter((port) => !this.#platformPorts.has(port))
        .map((port) => `domain ${this.id}: event channel port ${port}`),
      ...this.grants.live().map(({ ref, domain }) => `domain ${this.id}: grant ${ref} to domain ${domain}`),
      ...this.grantMapper
        .live()
        .map(({ ref, domain }) => `domain ${this.id}: maps grant ${ref} of domain ${domain}`),
      ...(this.pages.usedPages > 0 ? [`domain ${this.id}: ${this.pages.usedPages} pages`] : []),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const registration of this.#registrations.splice(0)) registration[Symbol.dispose]();
    this.#upcalls.clear();
  }

  #runUpcalls(): boolean {
    let progress = false;
    for (const poll of this.#upcalls) if (poll()) progress = true;
    return progress;
  }

  /** An event to oneself: no doorbell, the loop only has to look again. */
  #wakeSelf(): void {
    this.#selfUpcall ??= this.aio.createBottomHalf(() => void this.#runUpcalls());
    this.#selfUpcall.schedule();
  }

  /** A domain that ended between the answer and here would never be reported as gone: what is kept of it would stay. */
  async #map(domain: DomId, access: MapAccess): Promise<ForeignDomain> {
    const foreign = await this.connection.mapDomain(domain, access);
    if (this.connection.foreign(domain, access) !== undefined) return foreign;
    throw new HypercallError('ESRCH', 'map_domain', `Domain ${domain} ended`);
  }

  #target(foreign: ForeignDomain): EventTarget {
    const held = this.#targets.get(foreign.domain);
    if (held !== undefined) return held;
    const target = eventTargetOf(foreign.memory.xen, () => foreign.ring());
    this.#targets.set(foreign.domain, target);
    return target;
  }
}
