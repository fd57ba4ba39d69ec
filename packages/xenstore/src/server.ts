import type { DomId } from '@virtlab/abi/brands';
import { XS_UNWATCH, XS_WATCH } from '@virtlab/abi/xs-wire';
import type { ByteStream } from './contract.ts';
import { DaemonCounters } from './daemon-counters.ts';
import { daemonReport } from './daemon-report.ts';
import type { DaemonStatistics } from './daemon-statistics.ts';
import { DomainRings, type XenstoreDomainHost } from './domain-rings.ts';
import { FaultInjector } from './fault-injector.ts';
import type { RequestTicket } from './output-queue.ts';
import { handleOxRequest } from './ox-dispatch.ts';
import { newControlState } from './control-requests.ts';
import type { ControlSinks, ControlState, DomainAdministration, Outcome, Request } from './request.ts';
import { REQUESTS } from './request-table.ts';
import {
  type ConnectionKind,
  type ConnectionLimits,
  type ConnectionStatistics,
  ServerConnection,
} from './server-connection.ts';
import { ServerMonitor } from './server-monitor.ts';
import type { StoreIdentity, StoreUse, Transaction, XenstoreStore } from './store.ts';
import type { XenstorePacket } from './wire.ts';

export type { ControlSinks } from './request.ts';
export type { ConnectionKind, ConnectionLimits, ConnectionStatistics } from './server-connection.ts';
export type { PagePort, XenstoreAttachment, XenstoreDomainHost } from './domain-rings.ts';
export type { RingPage, XenstoreRingPort } from './ring.ts';

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
  /** The counters that the store has as its observer; without them quotas and conflicts are not counted. */
  readonly counters?: DaemonCounters;
  /** What goes wrong on purpose: the injector that the store was given. Default: nothing. */
  readonly faults?: FaultInjector;
}

export interface XenstoreStatistics {
  readonly nodeCount: number;
  readonly watchCount: number;
  readonly requestCount: number;
  readonly connections: readonly ConnectionStatistics[];
  readonly domains: readonly StoreUse[];
}

const LIMITS: Omit<ConnectionLimits, 'watchEventTimeoutMs'> = {
  outputSize: 64 * 1024,
  backlogSize: 16 * 2 ** 20,
  inputSize: 64 * 1024,
};

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
  readonly #rings: DomainRings;
  /** In the order of their turns. */
  readonly #ready = new Set<ServerConnection>();
  /** Have input but must wait, until output or a quota is free. */
  readonly #blocked = new Set<ServerConnection>();
  /** Have output that was not offered to their streams; each once. */
  readonly #unflushed: ServerConnection[] = [];
  readonly #onSettled = (): void => this.#retry();
  readonly #administration: DomainAdministration;
  /** Where the server's doings are counted, logged and traced. */
  readonly monitor: ServerMonitor;
  readonly #controlState: ControlState = newControlState();
  #isRunning = false;
  #isScheduled = false;

  constructor(options: XenstoreServerOptions) {
    this.store = options.store;
    this.#options = options;
    const { watchEventTimeoutMs } = this.store.profile;
    this.#limits = { ...LIMITS, watchEventTimeoutMs, ...options.limits };
    this.#batchCount = options.batchCount ?? 256;
    this.#schedule = options.schedule ?? queueMicrotask;
    this.monitor = new ServerMonitor(
      options.counters ?? new DaemonCounters(),
      options.faults ?? new FaultInjector(),
      this.#schedule,
    );
    if (this.store.oxenstored !== undefined) this.store.oxenstored.onCredit = this.#onSettled;
    if (this.store.writeRateLimit !== undefined) this.store.writeRateLimit.onPaid = () => this.#retry();
    this.monitor.faults.onClear = () => this.#retry();
    this.#rings = new DomainRings(this.store, options.domains, (stream, identity) => {
      this.accept(stream, identity, 'ring');
    });
    this.#administration = {
      introduce: (domid, gfn, port) => this.#rings.introduce(domid, gfn, port),
      releaseDomain: (domid) => this.releaseDomain(domid as DomId),
    };
  }

  /** Serves one client for as long as its stream lives. `kind` is for reports. */
  accept(stream: ByteStream, identity: StoreIdentity, kind: ConnectionKind = 'memory'): ServerConnection {
    const { monitor, store } = this;
    const events = {
      onReady: () => this.#wake(connection),
      onOutput: () => {
        if (connection.isFlushDue) return;
        connection.isFlushDue = true;
        this.#unflushed.push(connection);
      },
      onClosed: () => this.#forget(connection),
    };
    const connection: ServerConnection = new ServerConnection(
      store,
      stream,
      identity,
      kind,
      this.#limits,
      monitor,
      events,
    );
    this.#connections.add(connection);
    monitor.accessLog?.opened(connection, kind);
    connection.start();
    return connection;
  }

  /** The domain is gone: its connections end, its nodes disappear, `@releaseDomain` fires. */
  releaseDomain(domid: DomId): void {
    if (this.store.domains.detach(domid)) return;
    for (const kept of this.store.domains.takeDetached(domid)) this.releaseDomain(kept as DomId);
    this.#rings.close(domid);
    for (const connection of this.#connections) {
      if (connection.identity.domid === domid && !connection.identity.privileged)
        connection.close(undefined, 'its domain is gone');
    }
    this.store.domains.release(domid);
    this.#flush();
  }

  /** The domain has shut down or crashed, but still exists: `@releaseDomain` fires, once. */
  shutdownDomain(domid: DomId): void {
    this.store.domains.shutdown(domid);
    this.#flush();
  }

  statistics(): XenstoreStatistics {
    return {
      nodeCount: this.store.nodeCount,
      watchCount: this.store.watchCount,
      requestCount: this.monitor.counters.requestCount,
      connections: Array.from(this.#connections, (connection) => connection.statistics()),
      domains: this.store.use(),
    };
  }

  /** Everything that is counted; what grows without bound in a long life is cut to the most frequent. */
  daemonStatistics(): DaemonStatistics {
    return daemonReport(this.store, this.monitor.counters, this.#connections);
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
    this.#rings.closeAll();
    for (const connection of this.#connections) connection.close(undefined, 'the daemon ends');
    this.store.writeRateLimit?.close();
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
      let connection: ServerConnection | undefined;
      for (let budget = this.#batchCount; budget > 0; budget--) {
        connection ??= this.#next();
        if (connection === undefined) break;
        const wantsMore = this.#step(connection);
        this.#flush();
        if (wantsMore && this.#ready.size === 0 && budget > 1) continue; // nobody else waits for a turn
        if (wantsMore && !connection.isClosed) this.#ready.add(connection);
        connection = undefined;
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

  #next(): ServerConnection | undefined {
    for (const connection of this.#ready) {
      this.#ready.delete(connection);
      return connection;
    }
    return undefined;
  }

  /** Whether it is to have another turn. */
  #step(connection: ServerConnection): boolean {
    if (connection.isClosed) return false;
    const reason = connection.waitsFor;
    if (reason !== undefined) {
      connection.pauseInput();
      this.#blocked.add(connection);
      this.monitor.held(connection, reason, this.store.quotas);
      return false;
    }
    const parsed = connection.parser.next();
    if (parsed.status === 'error') {
      connection.close('protocol', `it broke the protocol: ${parsed.reason}`);
    } else if (parsed.status === 'packet') {
      this.#process(connection, parsed.packet);
      return !connection.isClosed;
    } else {
      connection.resumeInput();
    }
    return false;
  }

  #process(connection: ServerConnection, received: XenstorePacket): void {
    const { monitor } = this;
    const packet = this.#withoutIgnoredTransaction(received);
    monitor.requestBegins(connection, packet);
    const ticket = connection.beginRequest(this.#onSettled);
    const outcome = this.#handle(connection, packet, ticket);
    if (!(outcome instanceof Promise)) {
      if (outcome !== undefined) connection.sendError(packet, outcome, ticket);
      monitor.requestEnds(connection, packet, monitor.counters.cause);
      return;
    }
    const header = { ...packet, payload: packet.payload.slice() };
    const settle = (late: Outcome): void => {
      connection.isBusy = false;
      if (late !== undefined) connection.sendError(header, late, ticket);
      monitor.requestEnds(connection, header, undefined);
      this.#flush();
      this.#wake(connection);
    };
    connection.isBusy = true;
    outcome.then(settle, () => settle('EIO'));
  }

  #withoutIgnoredTransaction(packet: XenstorePacket): XenstorePacket {
    const isWatch = packet.type === XS_WATCH || packet.type === XS_UNWATCH;
    if (!isWatch || packet.txId === 0 || !this.store.profile.watchesLeaveTransactions) return packet;
    return { ...packet, txId: 0 };
  }

  /** Unknown operation before privilege before transaction (xenstored 4.17, `process_message`). */
  #handle(
    connection: ServerConnection,
    packet: XenstorePacket,
    ticket: RequestTicket | undefined,
  ): Outcome | Promise<Outcome> {
    const { oxenstored } = this.store;
    if (oxenstored !== undefined) {
      const named = connection.state.transactions.get(packet.txId);
      const request = this.#request(connection, packet, named, ticket);
      return handleOxRequest(oxenstored, packet.type, packet.txId, request);
    }
    const entry = REQUESTS.get(packet.type);
    if (entry === undefined || packet.type >= this.store.profile.operationCount) return 'ENOSYS';
    if (entry.privileged === true && !connection.identity.privileged) return 'EACCES';
    const txId = entry.ignoresTransaction === true ? 0 : packet.txId;
    const transaction = connection.state.transactions.get(txId);
    if (txId !== 0 && transaction === undefined) return 'ENOENT';
    return entry.handle(this.#request(connection, packet, transaction, ticket));
  }

  #request(
    connection: ServerConnection,
    packet: XenstorePacket,
    transaction: Transaction | undefined,
    ticket: RequestTicket | undefined,
  ): Request {
    return {
      store: this.store,
      administration: this.#administration,
      control: this.#options.control ?? {},
      controlState: this.#controlState,
      connection: connection.state,
      transaction,
      cause: ticket,
      payload: packet.payload,
      reply: (payload) => connection.sendReply(packet, payload, ticket),
      sendEvent: (path, token) => connection.sendEvent(path, token, undefined),
    };
  }

  #forget(connection: ServerConnection): void {
    const isRing = connection.kind === 'ring' && this.#rings.has(connection.domid);
    const domain = isRing && this.store.profile.engine === 'c' && this.store.domain(connection.domid);
    if (domain) domain.isIgnored = true; // its ring ended by itself (`ignore_connection`)
    this.#connections.delete(connection);
    this.#ready.delete(connection);
    this.#blocked.delete(connection);
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
    const unflushed = this.#unflushed;
    if (unflushed.length === 0) return;
    for (let i = 0; i < unflushed.length; i++) {
      const connection = unflushed[i]!;
      connection.isFlushDue = false;
      connection.flush();
    }
    unflushed.length = 0;
  }
}
