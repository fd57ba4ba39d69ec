import { XENSTORE_PAYLOAD_MAX, XSD_SOCKMSG, XS_ERROR, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import type { ByteString } from './byte-string.ts';
import type { ByteStream } from './contract.ts';
import { CutStream } from './cut-stream.ts';
import type { ConnectionReport } from './daemon-statistics.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { EventExpiry } from './event-expiry.ts';
import { HeldEvents } from './held-events.ts';
import { OutputQueue, type RequestTicket } from './output-queue.ts';
import type { ServerMonitor } from './server-monitor.ts';
import { exceedsMemory, exceedsOutstanding } from './quota-rules.ts';
import type { StoreConnection, StoreIdentity, XenstoreStore } from './store.ts';
import { XenstorePacketParser, type XenstorePacket, encodePacket } from './wire.ts';

/** Replies up to this size are sent even to a guest that is over its memory (C daemon, `DEFAULT_BUFFER_SIZE`). */
const SMALL_REPLY_SIZE = 16;

/** Bounds on what one connection may make the server hold. Bytes. */
export interface ConnectionLimits {
  /** Requests of a connection with this much undelivered output wait. */
  readonly outputSize: number;
  /** A privileged connection with this much undelivered output is ended; a guest's events are dropped by its quota. */
  readonly backlogSize: number;
  /** Input that waits for processing; beyond it the stream is paused. */
  readonly inputSize: number;
  /** Milliseconds that an event waits for a guest to fetch it before it is dropped; 0: for ever. */
  readonly watchEventTimeoutMs: number;
}

/** What the server needs to know of a connection's life. */
export interface ConnectionEvents {
  /** There is input to look at, or the way for it is free again. */
  onReady(connection: ServerConnection): void;
  /** There is output to flush. */
  onOutput(connection: ServerConnection): void;
  onClosed(connection: ServerConnection): void;
}

export interface ConnectionStatistics {
  readonly domid: number;
  readonly privileged: boolean;
  readonly requestCount: number;
  readonly eventCount: number;
  /** Events dropped because an identical one was queued. */
  readonly coalescedCount: number;
  readonly watches: readonly { readonly path: string; readonly token: string }[];
  readonly transactionIds: readonly number[];
  /** Bytes not yet taken by the stream. */
  readonly outputSize: number;
}

/** What carries it. */
export type ConnectionKind = ConnectionReport['kind'];

/** Why a connection's next request has to wait. */
export type WaitReason = NonNullable<ConnectionReport['waitsFor']>;

/** What an error answers that answers nothing. */
const NO_REQUEST: XenstorePacket = { type: 0, reqId: 0, txId: 0, payload: new Uint8Array() };

/** One client: its stream, its half-read request, its undelivered output, its standing in the store. */
export class ServerConnection {
  readonly identity: StoreIdentity;
  readonly kind: ConnectionKind;
  readonly stream: ByteStream;
  readonly parser: XenstorePacketParser;
  readonly output: OutputQueue;
  readonly state: StoreConnection;
  isClosed = false;
  /** A request takes time; the following ones wait. */
  isBusy = false;
  /** The server has noted that there is output to offer to the stream. */
  isFlushDue = false;
  /** Outcome and payload size of the last reply, for the access log. */
  lastOutcome: XenstoreErrorCode | 'OK' = 'OK';
  lastReplySize = 0;
  #isPaused = false;
  #requestCount = 0;
  #eventCount = 0;
  #coalescedCount = 0;
  readonly #store: XenstoreStore;
  readonly #limits: ConnectionLimits;
  readonly #events: ConnectionEvents;
  readonly #monitor: ServerMonitor;
  #held: HeldEvents | undefined;
  readonly #expiry: EventExpiry | undefined;

  constructor(
    store: XenstoreStore,
    stream: ByteStream,
    identity: StoreIdentity,
    kind: ConnectionKind,
    limits: ConnectionLimits,
    monitor: ServerMonitor,
    events: ConnectionEvents,
  ) {
    this.#store = store;
    this.#limits = limits;
    this.#events = events;
    this.#monitor = monitor;
    this.identity = identity;
    this.kind = kind;
    this.stream = this.#breakable(stream);
    const { payloadSizeMax, longRequests, emptyRequestsWait } = store.profile;
    this.parser = new XenstorePacketParser(payloadSizeMax, {
      truncatesPayloads: longRequests === 'truncate',
      emptyPayloadsWait: emptyRequestsWait && kind !== 'ring',
    });
    this.state = store.openConnection(identity, (path, token, cause) => {
      this.sendEvent(path, token, cause as RequestTicket | undefined);
    });
    this.state.hasEventRoom = () => this.output.eventCount < store.quotas.watchEvents;
    this.output = new OutputQueue(this.stream, (delta) => {
      this.state.domain.memorySize += delta;
    });
    this.#expiry = this.#newExpiry();
  }

  /** Events wait for guests only so long, where the profile says so. */
  #newExpiry(): EventExpiry | undefined {
    const { watchEventTimeoutMs } = this.#limits;
    if (this.identity.privileged || watchEventTimeoutMs === 0) return undefined;
    const { clock } = this.#monitor.counters;
    return new EventExpiry(clock, this.output, watchEventTimeoutMs, () => this.#events.onReady(this));
  }

  /** Starts listening. Not in the constructor: the stream may deliver at once. */
  start(): void {
    this.stream.attach({
      onData: (bytes) => {
        if (this.isClosed) return;
        this.parser.push(bytes);
        if (this.parser.bufferedSize >= this.#limits.inputSize) this.pauseInput();
        this.#events.onReady(this);
      },
      onDrain: () => {
        this.output.flush();
        this.state.onEventRoom?.();
        this.#events.onReady(this);
      },
      onClose: (reason) => this.close(undefined, reason ?? 'the client ended it'),
    });
  }

  /** 1, 2, 3 … in the order of opening. */
  get id(): number {
    return this.state.sequence;
  }

  get domid(): number {
    return this.identity.domid;
  }

  /** Whether the next request may be processed now (C daemon, `domain_can_read`; our own bound on output). */
  get canProceed(): boolean {
    return this.waitsFor === undefined;
  }

  /** What the next request would have to wait for; undefined: nothing. */
  get waitsFor(): WaitReason | undefined {
    if (this.isBusy) return 'request';
    if (this.output.size >= this.#limits.outputSize || this.state.heldEventCount > 0) return 'output';
    if (this.#store.oxenstored?.isPaused(this.state) === true) return 'conflicts';
    if (this.identity.privileged) return undefined;
    const { fullQuotas } = this.#monitor.faults; // not for the privileged: who else could end it
    if (fullQuotas.size > 0 && fullQuotas.has('outstanding')) return 'outstanding';
    const { profile, writeRateLimit } = this.#store;
    const { domain } = this.state;
    if (writeRateLimit?.isInDebt(domain) === true || fullQuotas.has('write-rate')) return 'write-rate';
    if (exceedsOutstanding(profile, domain.quotas, domain.outstandingCount)) return 'outstanding';
    return exceedsMemory(domain.quotas, domain.memorySize) ? 'memory' : undefined;
  }

  pauseInput(): void {
    if (this.#isPaused || this.isClosed) return;
    this.#isPaused = true;
    this.stream.pause();
  }

  resumeInput(): void {
    if (!this.#isPaused || this.isClosed || this.parser.bufferedSize >= this.#limits.inputSize) return;
    this.#isPaused = false;
    this.stream.resume();
  }

  /** A request begins: it is outstanding until everything it brings about is delivered. */
  beginRequest(onSettled: () => void): RequestTicket | undefined {
    this.#requestCount += 1;
    const { domain } = this.state;
    if (this.identity.privileged) {
      if (this.#store.profile.socketsCount) domain.see('outstanding', 1);
      return undefined;
    }
    domain.outstandingCount += 1;
    return {
      pendingEventCount: 0,
      isReplied: false,
      onSettled: () => {
        domain.outstandingCount -= 1;
        onSettled();
      },
    };
  }

  /** Replies to `request`; E2BIG if the payload is over the limit. */
  sendReply(request: XenstorePacket, payload: ByteString, ticket: RequestTicket | undefined): void {
    if (payload.length > XENSTORE_PAYLOAD_MAX && this.#refusesLarge) {
      this.sendError(request, 'E2BIG', ticket);
      return;
    }
    if (
      payload.length > SMALL_REPLY_SIZE &&
      !this.#hasMemoryFor(XSD_SOCKMSG.size + payload.length, 'reply')
    ) {
      this.sendError(request, 'ENOMEM', ticket);
      return;
    }
    this.lastOutcome = 'OK';
    this.lastReplySize = payload.length;
    this.#monitor.trace?.('out', this, request.type, request.reqId, request.txId, payload);
    const bytes = encodePacket(request.type, request.reqId, request.txId, payload, Infinity);
    this.#queueReply(bytes, ticket);
  }

  sendError(request: XenstorePacket, code: XenstoreErrorCode, ticket: RequestTicket | undefined): void {
    const payload = `${code}\0`;
    this.lastOutcome = code;
    this.lastReplySize = payload.length;
    this.#monitor.counters.error(code);
    this.#monitor.trace?.('out', this, XS_ERROR, request.reqId, request.txId, payload);
    this.#queueReply(encodePacket(XS_ERROR, request.reqId, request.txId, payload), ticket);
  }

  /** Queues an event, unless an identical one is queued already, it is too long, or the guest is over its memory. */
  sendEvent(path: string, token: string, ticket: RequestTicket | undefined): void {
    if (this.isClosed) return;
    const held = this.#held;
    if (this.#monitor.faults.holdsEvents || (held !== undefined && !held.isEmpty)) {
      this.#hold(path, token, ticket);
      return;
    }
    this.#queueEvent(path, token, ticket);
  }

  #queueEvent(path: string, token: string, ticket: RequestTicket | undefined): void {
    if (this.isClosed) return;
    const payload = `${path}\0${token}\0`;
    const { mergesEvents, largeReplies } = this.#store.profile;
    if (payload.length > XENSTORE_PAYLOAD_MAX && this.#refusesLarge) {
      if (largeReplies === 'refused-on-rings') this.sendError(NO_REQUEST, 'E2BIG', undefined);
      return;
    }
    const key = path.startsWith('@') || !mergesEvents ? undefined : payload;
    if (key !== undefined && this.output.hasEvent(key)) {
      this.#coalescedCount += 1;
      return;
    }
    const bytes = encodePacket(XS_WATCH_EVENT, 0, 0, payload, Infinity);
    if (!this.#hasMemoryFor(bytes.length, path)) return;
    this.#eventCount += 1;
    this.#monitor.counters.eventCount += 1;
    this.#monitor.trace?.('out', this, XS_WATCH_EVENT, 0, 0, payload);
    this.output.pushEvent(bytes, key, ticket, this.#expiry?.nextDeadline());
    this.#events.onOutput(this);
  }

  /** Sends what the stream takes; ends the connection if too much is left. */
  flush(): void {
    if (this.isClosed) return;
    this.output.flush();
    const size = this.output.size + (this.#held?.size ?? 0);
    if (this.identity.privileged && size > this.#limits.backlogSize)
      this.close(undefined, 'it does not read');
  }

  /** Ends the connection; its watches and transactions are dropped. Idempotent. */
  close(failure: 'protocol' | undefined, reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#store.closeConnection(this.state);
    this.#held?.clear();
    this.#expiry?.close();
    this.output.clear();
    this.#monitor.accessLog?.closed(this, reason);
    this.#events.onClosed(this);
    this.stream.close(failure);
  }

  statistics(): ConnectionStatistics {
    return {
      domid: this.identity.domid,
      privileged: this.identity.privileged,
      requestCount: this.#requestCount,
      eventCount: this.#eventCount,
      coalescedCount: this.#coalescedCount,
      watches: Array.from(this.state.watches.values(), ({ path, token }) => ({ path, token })),
      transactionIds: [...this.state.transactions.keys()],
      outputSize: this.output.size,
    };
  }

  report(): ConnectionReport {
    return {
      id: this.id,
      domid: this.identity.domid,
      kind: this.kind,
      privileged: this.identity.privileged,
      requestCount: this.#requestCount,
      eventCount: this.#eventCount,
      coalescedCount: this.#coalescedCount,
      watchCount: this.state.watches.size,
      transactionCount: this.state.transactions.size,
      outputSize: this.output.size,
      waitsFor: this.waitsFor,
    };
  }

  /** Whether so much more would not bring a guest to its memory quota (`domain_memory_add_chk`). */
  #hasMemoryFor(size: number, subject: string): boolean {
    const { domain, privileged } = this.state;
    const needed = domain.memorySize + size;
    if (privileged || !exceedsMemory(domain.quotas, needed)) return true;
    this.#monitor.counters.quotaFired('memory', domain.domid, subject, needed, domain.quotas.memorySize);
    return false;
  }

  get #refusesLarge(): boolean {
    return this.#store.profile.largeReplies === 'refused' || this.kind === 'ring';
  }

  /** The stream, or one that a fault will break. Ring pages cannot be disconnected. */
  #breakable(stream: ByteStream): ByteStream {
    const size = this.#monitor.faults.disconnectAtByte;
    if (size === undefined || this.kind === 'ring') return stream;
    return new CutStream(stream, size, () =>
      this.#monitor.defer(() => this.close(undefined, `a fault cut it after ${size} bytes`)),
    );
  }

  /** Keeps an event back, within the bounds that undelivered output has. */
  #hold(path: string, token: string, ticket: RequestTicket | undefined): void {
    const { clock } = this.#monitor.counters;
    this.#held ??= new HeldEvents(
      this.#monitor.faults,
      clock,
      (event) => this.#queueEvent(event.path, event.token, event.ticket),
      () => this.#events.onReady(this),
    );
    if (!this.#hasMemoryFor(this.#held.size, path)) return;
    this.#held.hold(path, token, ticket);
    this.#events.onOutput(this);
  }

  #queueReply(bytes: Uint8Array, ticket: RequestTicket | undefined): void {
    this.#held?.onReply();
    if (this.isClosed) {
      if (ticket !== undefined) ticket.isReplied = true;
      if (ticket?.pendingEventCount === 0) ticket.onSettled();
      return;
    }
    this.output.pushReply(bytes, ticket);
    this.#events.onOutput(this);
  }
}
