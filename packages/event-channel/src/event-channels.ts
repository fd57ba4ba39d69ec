import { type DomId, type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_unbound,
  EVTCHN_2L_NR_CHANNELS,
  SHARED_INFO,
} from '@virtlab/abi/event-channel';
import type {
  EventChannelHypercalls,
  EventChannelStatus,
  EventChannels,
  EventTarget,
  PortTableView,
} from './contract.ts';
import { PendingScanner } from './pending-scanner.ts';
import { portEntryIndex, sendWordDomain, sendWordPort, usablePortCount } from './port-table.ts';
import { maskAllPorts, maskPort, setPending, unmaskPort } from './two-level.ts';

/** A domain has one vCPU here. */
const VCPU = 0;

/** How a domain reaches the pages of others. */
export interface EventPeers {
  /** The target of a connected domain; looked up on every send, so cheap. */
  target(domain: DomId): EventTarget | undefined;
  /** Maps the target of a domain; asked once for all sends that wait for it. May reject: the domain is gone. */
  connect(domain: DomId): Promise<EventTarget>;
}

export interface EventChannelsOptions {
  readonly domain: DomId;
  /** The domain's own shared_info; `wake` asks for a `dispatch` soon. */
  readonly own: EventTarget;
  readonly portTable: PortTableView;
  readonly hypercalls: EventChannelHypercalls;
  readonly peers: EventPeers;
  /** Gets what a handler threw. By default it is thrown again in a microtask, where it is an uncaught error. */
  readonly onHandlerError?: (error: unknown, port: EvtchnPort) => void;
}

/**
 * The event channels of a domain over the 2-level ABI. Masks all ports: create it once, when the domain boots; what was
 * posted before is kept until its port has a handler. Throws `RangeError` if a view does not lie in its region.
 */
export function createEventChannels(options: EventChannelsOptions): EventChannels {
  return new TwoLevelEventChannels(options);
}

class TwoLevelEventChannels implements EventChannels {
  readonly domain: DomId;
  readonly #own: EventTarget;
  readonly #portTable: PortTableView;
  readonly #portCount: number;
  readonly #hypercalls: EventChannelHypercalls;
  readonly #peers: EventPeers;
  readonly #onHandlerError: (error: unknown, port: EvtchnPort) => void;
  readonly #handlers: ((() => void) | undefined)[];
  readonly #scanner: PendingScanner;
  /** Local ports that were sent on while their peer was being connected. */
  readonly #waiting = new Map<DomId, Set<EvtchnPort>>();

  constructor(options: EventChannelsOptions) {
    const { region, sharedInfoOffset } = options.own;
    if (sharedInfoOffset % 8 !== 0 || sharedInfoOffset + SHARED_INFO.size > region.size) {
      throw new RangeError(
        `shared_info at ${sharedInfoOffset} does not lie in a region of ${region.size} bytes`,
      );
    }
    this.domain = options.domain;
    this.#own = options.own;
    this.#portTable = options.portTable;
    this.#portCount = usablePortCount(options.portTable);
    this.#hypercalls = options.hypercalls;
    this.#peers = options.peers;
    this.#onHandlerError = options.onHandlerError ?? rethrowLater;
    this.#handlers = Array.from({ length: this.#portCount }, () => undefined);
    this.#scanner = new PendingScanner(options.own, VCPU, (port) => this.#run(port));
    maskAllPorts(options.own);
  }

  allocUnbound(remote: DomId): Promise<EvtchnPort> {
    return this.#hypercalls.allocUnbound(this.domain, remote);
  }

  bindInterdomain(remote: DomId, remotePort: EvtchnPort): Promise<EvtchnPort> {
    return this.#hypercalls.bindInterdomain(remote, remotePort);
  }

  bindVirq(virq: number): Promise<EvtchnPort> {
    return this.#hypercalls.bindVirq(virq, VCPU);
  }

  async close(port: EvtchnPort): Promise<void> {
    // Before the hypervisor can give the number away again: the mask stays for its next owner.
    if (this.#isPort(port)) this.#dropHandler(port);
    await this.#hypercalls.close(port);
  }

  status(port: EvtchnPort): Promise<EventChannelStatus> {
    return this.#hypercalls.status(this.domain, port);
  }

  send(port: EvtchnPort): boolean {
    if (!this.#isPort(port)) return false;
    const words = this.#portTable.region.i32;
    const entry = portEntryIndex(this.#portTable, port);
    const word = Atomics.load(words, entry);
    if (word === 0) return Atomics.load(words, entry + 1) === EVTCHNSTAT_unbound;
    const domain = sendWordDomain(word) as DomId;
    const remotePort = sendWordPort(word);
    if (remotePort >= EVTCHN_2L_NR_CHANNELS) return false;
    const target = domain === this.domain ? this.#own : this.#peers.target(domain);
    if (target === undefined) this.#sendWhenConnected(domain, port);
    else setPending(target, remotePort, VCPU);
    return true;
  }

  mask(port: EvtchnPort): void {
    this.#requirePort(port);
    maskPort(this.#own, port);
  }

  unmask(port: EvtchnPort): void {
    this.#requirePort(port);
    if (this.#handlers[port] !== undefined) unmaskPort(this.#own, port, VCPU);
  }

  onEvent(port: EvtchnPort, handler: (() => void) | undefined): void {
    this.#requirePort(port);
    if (handler === undefined) {
      this.#dropHandler(port);
      return;
    }
    const isFirst = this.#handlers[port] === undefined;
    this.#handlers[port] = handler;
    if (isFirst) unmaskPort(this.#own, port, VCPU);
  }

  hasPending(): boolean {
    return this.#scanner.hasPending();
  }

  dispatch(): number {
    return this.#scanner.round();
  }

  openPorts(): readonly EvtchnPort[] {
    const open: EvtchnPort[] = [];
    for (let port = 1; port < this.#portCount; port++) {
      const status = Atomics.load(this.#portTable.region.i32, portEntryIndex(this.#portTable, port) + 1);
      if (status !== EVTCHNSTAT_closed) open.push(evtchnPort(port));
    }
    return open;
  }

  #run(port: number): boolean {
    const handler = this.#handlers[port];
    if (handler === undefined) return false;
    try {
      handler();
    } catch (error) {
      this.#onHandlerError(error, port as EvtchnPort);
    }
    return true;
  }

  #sendWhenConnected(domain: DomId, port: EvtchnPort): void {
    const waiting = this.#waiting.get(domain);
    if (waiting !== undefined) {
      waiting.add(port);
      return;
    }
    this.#waiting.set(domain, new Set([port]));
    void this.#connect(domain);
  }

  async #connect(domain: DomId): Promise<void> {
    let target: EventTarget | undefined;
    try {
      target = await this.#peers.connect(domain);
    } catch {
      // The peer is gone, and with it what the event was for.
    }
    const ports = this.#waiting.get(domain) ?? [];
    this.#waiting.delete(domain);
    if (target === undefined) return;
    for (const port of ports) {
      // The port may have been closed, or bound to somebody else, meanwhile.
      const word = Atomics.load(this.#portTable.region.i32, portEntryIndex(this.#portTable, port));
      if (word !== 0 && sendWordDomain(word) === domain) setPending(target, sendWordPort(word), VCPU);
    }
  }

  #dropHandler(port: EvtchnPort): void {
    maskPort(this.#own, port);
    this.#handlers[port] = undefined;
  }

  #isPort(port: EvtchnPort): boolean {
    return port > 0 && port < this.#portCount;
  }

  #requirePort(port: EvtchnPort): void {
    if (!this.#isPort(port)) throw new RangeError(`Port ${port} is not one of 1 to ${this.#portCount - 1}`);
  }
}

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
