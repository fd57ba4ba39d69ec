import { XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import type { ByteString } from './byte-string.ts';
import type { ByteStream } from './contract.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { OutputQueue, type RequestTicket } from './output-queue.ts';
import type { StoreConnection, StoreIdentity, XenstoreStore } from './store.ts';
import { XenstorePacketParser, type XenstorePacket, encodePacket } from './wire.ts';

/** Bounds on what one connection may make the server hold. Bytes. */
export interface ConnectionLimits {
  /** Requests of a connection with this much undelivered output wait. */
  readonly outputSize: number;
  /** A privileged connection with this much undelivered output is ended; a guest's events are dropped by its quota. */
  readonly backlogSize: number;
  /** Input that waits for processing; beyond it the stream is paused. */
  readonly inputSize: number;
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

/** One client: its stream, its half-read request, its undelivered output, its standing in the store. */
export class ServerConnection {
  readonly identity: StoreIdentity;
  readonly stream: ByteStream;
  readonly parser: XenstorePacketParser;
  readonly output: OutputQueue;
  readonly state: StoreConnection;
  isClosed = false;
  /** A request takes time; the following ones wait. */
  isBusy = false;
  #isPaused = false;
  #requestCount = 0;
  #eventCount = 0;
  #coalescedCount = 0;
  readonly #store: XenstoreStore;
  readonly #limits: ConnectionLimits;
  readonly #events: ConnectionEvents;

  constructor(
    store: XenstoreStore,
    stream: ByteStream,
    identity: StoreIdentity,
    limits: ConnectionLimits,
    events: ConnectionEvents,
  ) {
    this.#store = store;
    this.#limits = limits;
    this.#events = events;
    this.identity = identity;
    this.stream = stream;
    this.parser = new XenstorePacketParser(store.profile.payloadSizeMax);
    this.state = store.openConnection(identity, (path, token, cause) => {
      this.sendEvent(path, token, cause as RequestTicket | undefined);
    });
    this.output = new OutputQueue(stream, (delta) => {
      this.state.domain.memorySize += delta;
    });
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
        this.#events.onReady(this);
      },
      onClose: () => this.close(),
    });
  }

  /** Whether the next request may be processed now (C daemon, `domain_can_read`; our own bound on output). */
  get canProceed(): boolean {
    if (this.isBusy || this.output.size >= this.#limits.outputSize) return false;
    if (this.identity.privileged) return true;
    const { quotas } = this.#store;
    const { outstandingCount, memorySize } = this.state.domain;
    return outstandingCount < quotas.outstanding && memorySize < quotas.memorySize;
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
    if (this.identity.privileged) return undefined;
    const { domain } = this.state;
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
    if (payload.length > XENSTORE_PAYLOAD_MAX) {
      this.sendError(request, 'E2BIG', ticket);
      return;
    }
    this.#queueReply(encodePacket(request.type, request.reqId, request.txId, payload), ticket);
  }

  sendError(request: XenstorePacket, code: XenstoreErrorCode, ticket: RequestTicket | undefined): void {
    this.#queueReply(encodePacket(XS_ERROR, request.reqId, request.txId, `${code}\0`), ticket);
  }

  /** Queues an event, unless an identical one is queued already, it is too long, or the guest is over its memory. */
  sendEvent(path: string, token: string, ticket: RequestTicket | undefined): void {
    if (this.isClosed) return;
    const payload = `${path}\0${token}\0`;
    if (payload.length > XENSTORE_PAYLOAD_MAX) return;
    const key = path.startsWith('@') ? undefined : payload;
    if (key !== undefined && this.output.hasEvent(key)) {
      this.#coalescedCount += 1;
      return;
    }
    const bytes = encodePacket(XS_WATCH_EVENT, 0, 0, payload);
    const isGuest = !this.identity.privileged;
    if (isGuest && this.state.domain.memorySize + bytes.length >= this.#store.quotas.memorySize) return;
    this.#eventCount += 1;
    this.output.pushEvent(bytes, key, ticket);
    this.#events.onOutput(this);
  }

  /** Sends what the stream takes; ends the connection if too much is left. */
  flush(): void {
    if (this.isClosed) return;
    this.output.flush();
    if (this.identity.privileged && this.output.size > this.#limits.backlogSize) this.close();
  }

  /** Ends the connection; its watches and transactions are dropped. Idempotent. */
  close(failure?: 'protocol'): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#store.closeConnection(this.state);
    this.output.clear();
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

  #queueReply(bytes: Uint8Array, ticket: RequestTicket | undefined): void {
    if (this.isClosed) {
      if (ticket !== undefined) ticket.isReplied = true;
      if (ticket?.pendingEventCount === 0) ticket.onSettled();
      return;
    }
    this.output.pushReply(bytes, ticket);
    this.#events.onOutput(this);
  }
}
