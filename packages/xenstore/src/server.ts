import { type DomId, type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import type { ByteStream } from './contract.ts';
import { isUnprivilegedDomain } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { RequestTicket } from './output-queue.ts';
import type { ControlSinks, DomainAdministration, Outcome } from './request.ts';
import { REQUESTS } from './request-table.ts';
import { serveRing, type ServedRing, type XenstoreRingPort } from './ring.ts';
import { type ConnectionLimits, type ConnectionStatistics, ServerConnection } from './server-connection.ts';
import type { StoreIdentity, StoreUse, XenstoreStore } from './store.ts';
import type { XenstorePacket } from './wire.ts';

export type { ControlSinks } from './request.ts';
export type { ConnectionLimits, ConnectionStatistics } from './server-connection.ts';
export type { RingPage, XenstoreRingPort } from './ring.ts';

/** What INTRODUCE found: the domain's ring, or why it has none, or that it needs none. */
export type XenstoreAttachment = XenstoreRingPort | XenstoreErrorCode | undefined;

/** The daemon's door to the hypervisor. */
export interface XenstoreDomainHost {
  /**
   * INTRODUCE: maps the ring page and binds to the domain's unbound `port`. An error code is passed on to the
   * requester; undefined introduces the domain without a ring, when it connects by other means.
   */
  attach(domid: DomId, gfn: number, port: EvtchnPort): XenstoreAttachment | Promise<XenstoreAttachment>;
}

export interface XenstoreServerOptions {
  readonly store: XenstoreStore;
  /** Default: domains are introduced without a ring. */
  readonly domains?: XenstoreDomainHost;
  readonly control?: ControlSinks;
  readonly limits?: Partial<ConnectionLimits>;
  /** Requests processed before others on this thread get their turn. Default 256. */
  readonly batchCount?: number;
  /** Runs a function soon, in order. Default `queueMicrotask`; under Node `setImmediate` lets input in between. */
  readonly schedule?: (run: () => void) => void;
}

export interface XenstoreStatistics {
  readonly nodeCount: number;
  readonly watchCount: number;
  readonly requestCount: number;
  readonly connections: readonly ConnectionStatistics[];
  readonly domains: readonly StoreUse[];
}

const LIMITS: ConnectionLimits = { outputSize: 64 * 1024, backlogSize: 16 * 2 ** 20, inputSize: 64 * 1024 };

/**
 * The daemon without its sockets: gives each connection its turn, one request at a time, and processes it to its end
 * before the next. Nothing a client sends makes it throw, wait for that client, or hold unbounded memory for it.
 */
export class XenstoreServer {
  readonly store: XenstoreStore;
  readonly #options: XenstoreServerOptions;
  readonly #limits: ConnectionLimits;
  readonly #batchCount: number;
  readonly #schedule: (run: () => void) => void;
  readonly #connections = new Set<ServerConnection>();
  readonly #rings = new Map<number, ServedRing>();
  /** In the order of their turns. */
  readonly #ready = new Set<ServerConnection>();
  /** Have input but must wait, until output or a quota is free. */
  readonly #blocked = new Set<ServerConnection>();
  readonly #unflushed = new Set<ServerConnection>();
  readonly #administration: DomainAdministration;
  #isRunning = false;
  #isScheduled = false;
  #requestCount = 0;

  constructor(options: XenstoreServerOptions) {
    this.store = options.store;
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.#batchCount = options.batchCount ?? 256;
    this.#schedule = options.schedule ?? queueMicrotask;
    this.#administration = {
      introduce: (domid, gfn, port) => this.#introduce(domid, gfn, port),
      releaseDomain: (domid) => this.releaseDomain(domid as DomId),
    };
  }

  /** Serves one client for as long as its stream lives. */
  accept(stream: ByteStream, identity: StoreIdentity): ServerConnection {
    const connection: ServerConnection = new ServerConnection(this.store, stream, identity, this.#limits, {
      onReady: () => this.#wake(connection),
      onOutput: () => void this.#unflushed.add(connection),
      onClosed: () => this.#forget(connection),
    });
    this.#connections.add(connection);
    connection.start();
    return connection;
  }

  /** The domain is gone: its connections end, its nodes disappear, `@releaseDomain` fires. */
  releaseDomain(domid: DomId): void {
    this.#rings.get(domid)?.close();
    this.#rings.delete(domid);
    for (const connection of this.#connections) {
      if (connection.identity.domid === domid && !connection.identity.privileged) connection.close();
    }
    this.store.releaseDomain(domid);
    this.#flush();
  }

  /** The domain has shut down or crashed, but still exists: `@releaseDomain` fires, once. */
  shutdownDomain(domid: DomId): void {
    this.store.shutdownDomain(domid);
    this.#flush();
  }

  statistics(): XenstoreStatistics {
    return {
      nodeCount: this.store.nodeCount,
      watchCount: this.store.watchCount,
      requestCount: this.#requestCount,
      connections: Array.from(this.#connections, (connection) => connection.statistics()),
      domains: this.store.use(),
    };
  }

  /** Throws, naming each, if any connection still holds a watch or a transaction. */
  assertQuiescent(): void {
    const held = this.statistics().connections.flatMap(({ domid, watches, transactionIds }) => [
      ...watches.map(({ path, token }) => `domain ${domid} watches ${path} (${token})`),
      ...transactionIds.map((id) => `domain ${domid} has transaction ${id} open`),
    ]);
    if (held.length > 0) throw new Error(`xenstore is not quiescent: ${held.join('; ')}`);
  }

  /** Ends all connections. */
  close(): void {
    for (const ring of this.#rings.values()) ring.close();
    this.#rings.clear();
    for (const connection of this.#connections) connection.close();
  }

  #wake(connection: ServerConnection): void {
    if (connection.isClosed) return;
    this.#blocked.delete(connection);
    this.#ready.add(connection);
    this.#run();
  }

  /** Round robin, one request each. Re-entered from callbacks it only leaves work for the loop that is running. */
  #run(): void {
    if (this.#isRunning || this.#isScheduled) return;
    this.#isRunning = true;
    try {
      for (let budget = this.#batchCount; budget > 0; budget--) {
        const [connection] = this.#ready;
        if (connection === undefined) break;
        this.#ready.delete(connection);
        this.#step(connection);
        this.#flush();
      }
    } finally {
      this.#isRunning = false;
    }
    this.#unblock();
    if (this.#ready.size === 0 || this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(() => {
      this.#isScheduled = false;
      this.#run();
    });
  }

  #step(connection: ServerConnection): void {
    if (connection.isClosed) return;
    if (!connection.canProceed) {
      connection.pauseInput();
      this.#blocked.add(connection);
      return;
    }
    const parsed = connection.parser.next();
    if (parsed.status === 'error') {
      connection.close('protocol');
    } else if (parsed.status === 'packet') {
      this.#process(connection, parsed.packet);
      if (!connection.isClosed) this.#ready.add(connection);
    } else {
      connection.resumeInput();
    }
  }

  #process(connection: ServerConnection, packet: XenstorePacket): void {
    this.#requestCount += 1;
    const ticket = connection.beginRequest(() => this.#retry());
    const outcome = this.#handle(connection, packet, ticket);
    if (!(outcome instanceof Promise)) {
      if (outcome !== undefined) connection.sendError(packet, outcome, ticket);
      return;
    }
    const header = { ...packet, payload: new Uint8Array() };
    const settle = (late: Outcome): void => {
      connection.isBusy = false;
      if (late !== undefined) connection.sendError(header, late, ticket);
      this.#flush();
      this.#wake(connection);
    };
    connection.isBusy = true;
    outcome.then(settle, () => settle('EIO'));
  }

  /** Unknown operation before privilege before transaction (xenstored 4.17, `process_message`). */
  #handle(
    connection: ServerConnection,
    packet: XenstorePacket,
    ticket: RequestTicket | undefined,
  ): Outcome | Promise<Outcome> {
    const entry = REQUESTS.get(packet.type);
    if (entry === undefined) return 'ENOSYS';
    if (entry.privileged === true && !connection.identity.privileged) return 'EACCES';
    const txId = entry.ignoresTransaction === true ? 0 : packet.txId;
    const transaction = connection.state.transactions.get(txId);
    if (txId !== 0 && transaction === undefined) return 'ENOENT';
    return entry.handle({
      store: this.store,
      administration: this.#administration,
      control: this.#options.control ?? {},
      connection: connection.state,
      transaction,
      cause: ticket,
      payload: packet.payload,
      reply: (payload) => connection.sendReply(packet, payload, ticket),
      sendEvent: (path, token) => connection.sendEvent(path, token, undefined),
    });
  }

  #introduce(domid: number, gfn: number, port: number): Outcome | Promise<Outcome> {
    if (domid > 0xffff) return 'EINVAL';
    this.#rings.get(domid)?.close(); // introduced again: its port and watches go before it gets new ones
    this.#rings.delete(domid);
    const attached = this.#options.domains?.attach(domId(domid), gfn, evtchnPort(port));
    const finish = (ring: XenstoreAttachment): Outcome => {
      if (typeof ring === 'string') return ring;
      this.store.introduce(domid);
      if (ring !== undefined) this.#serve(ring, domid);
      return undefined;
    };
    return attached instanceof Promise ? attached.then(finish) : finish(attached);
  }

  #serve(ring: XenstoreRingPort, domid: number): void {
    const identity = { domid, privileged: !isUnprivilegedDomain(domid) };
    const { serverFeatures } = this.store.profile;
    this.#rings.set(
      domid,
      serveRing(ring, serverFeatures, (stream) => void this.accept(stream, identity)),
    );
  }

  #forget(connection: ServerConnection): void {
    this.#connections.delete(connection);
    this.#ready.delete(connection);
    this.#blocked.delete(connection);
    this.#unflushed.delete(connection);
  }

  #retry(): void {
    this.#unblock();
    if (this.#ready.size > 0) this.#run();
  }

  /** Whoever waited for room or for a quota, and has it now, gets its turn again. */
  #unblock(): void {
    for (const connection of this.#blocked) {
      if (!connection.canProceed) continue;
      this.#blocked.delete(connection);
      this.#ready.add(connection);
    }
  }

  #flush(): void {
    for (const connection of this.#unflushed) {
      this.#unflushed.delete(connection);
      connection.flush();
    }
  }
}
