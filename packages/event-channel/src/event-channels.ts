import { type DomId, type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_unbound,
  EVTCHN_2L_NR_CHANNELS,
  SHARED_INFO,
} from '@virtlab/abi/event-channel';
import { XEN_LEGACY_MAX_VCPUS } from '@virtlab/abi/xen';
import type {
  EventAbi,
  EventChannelHypercalls,
  EventChannelStatus,
  EventChannels,
  EventTarget,
  PortTableView,
} from './contract.ts';
import { GuestFifo } from './guest-fifo.ts';
import { PendingScanner } from './pending-scanner.ts';
import { portEntryIndex, sendWordDomain, sendWordPort, usablePortCount } from './port-table.ts';
import { postEvent, routedVcpu } from './post.ts';
import {
  isMasked,
  maskAllPorts,
  maskPort,
  repostPending,
  setPending,
  unmaskAllPorts,
  unmaskPort,
  upcallIndex,
  upcallMaskIndex,
} from './two-level.ts';
import { type EventPeers, WaitingSends } from './waiting-sends.ts';

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
 * The event channels of a domain, over the 2-level ABI until `useFifo`. Masks all ports: create it once, when the domain
 * boots, after the hypervisor knows it; what was posted before is kept until its port has a handler. Throws `RangeError` if
 * a view does not lie in its region.
 */
export function createEventChannels(options: EventChannelsOptions): EventChannels {
  return new DomainEventChannels(options);
}

class DomainEventChannels implements EventChannels {
  readonly domain: DomId;
  readonly #own: EventTarget;
  readonly #portTable: PortTableView;
  readonly #portCount: number;
  readonly #vcpuCount: number;
  readonly #hypercalls: EventChannelHypercalls;
  readonly #peers: EventPeers;
  readonly #onHandlerError: (error: unknown, port: EvtchnPort) => void;
  readonly #handlers: ((() => void) | undefined)[] = [];
  readonly #scanners: readonly PendingScanner[];
  readonly #waiting: WaitingSends;
  #fifo: GuestFifo | undefined;
  /** The FIFO ABI is prepared, but events may still come over the other one: masks are kept for both. */
  #isSwitching = false;

  constructor(options: EventChannelsOptions) {
    const { region, sharedInfoOffset, delivery } = options.own;
    if (sharedInfoOffset % 8 !== 0 || sharedInfoOffset + SHARED_INFO.size > region.size) {
      throw new RangeError(
        `shared_info at ${sharedInfoOffset} does not lie in a region of ${region.size} bytes`,
      );
    }
    this.domain = options.domain;
    this.#own = options.own;
    this.#portTable = options.portTable;
    this.#portCount = usablePortCount(options.portTable);
    const vcpuCount = delivery === undefined ? 1 : Atomics.load(region.i32, delivery.vcpuCount);
    this.#vcpuCount = Math.min(Math.max(vcpuCount, 1), XEN_LEGACY_MAX_VCPUS);
    this.#hypercalls = options.hypercalls;
    this.#peers = options.peers;
    this.#onHandlerError = options.onHandlerError ?? rethrowLater;
    this.#scanners = Array.from(
      { length: this.#vcpuCount },
      (_, vcpu) => new PendingScanner(options.own, vcpu, (port) => this.#runBit(port), this.#vcpuCount > 1),
    );
    this.#waiting = new WaitingSends(options.peers, (domain, port, target) => {
      // The port may have been closed, or bound to somebody else, meanwhile.
      const word = Atomics.load(this.#portTable.region.i32, portEntryIndex(this.#portTable, port));
      if (word !== 0 && sendWordDomain(word) === domain) postEvent(target, sendWordPort(word), this.domain);
    });
    maskAllPorts(options.own);
  }

  get abi(): EventAbi {
    return this.#fifo === undefined ? '2l' : 'fifo';
  }

  async useFifo(): Promise<void> {
    if (this.#fifo !== undefined) return;
    const fifo = new GuestFifo({
      domain: this.domain,
      own: this.#own,
      vcpuCount: this.#vcpuCount,
      hypercalls: this.#hypercalls,
      run: (port) => this.#runHandler(port),
    });
    for (const [port, handler] of this.#handlers.entries())
      if (handler !== undefined && !isMasked(this.#own, port)) fifo.unmask(port);
    this.#fifo = fifo;
    this.#isSwitching = true;
    try {
      await fifo.initControl();
    } catch (error) {
      this.#fifo = undefined;
      // Something may have been posted to queues that there are not: at worst a handler runs without reason.
      for (const [port, handler] of this.#handlers.entries())
        if (handler !== undefined) setPending(this.#own, port, routedVcpu(this.#own, port));
      throw error;
    } finally {
      this.#isSwitching = false;
    }
    // A sender may have chosen the bitmaps just before: what it sets there is posted to the queues.
    unmaskAllPorts(this.#own);
    for (let vcpu = 0; vcpu < this.#vcpuCount; vcpu++) repostPending(this.#own, vcpu);
    await fifo.addPageOf(Math.max(this.#handlers.length - 1, this.openPorts().at(-1) ?? 0));
  }

  async allocUnbound(remote: DomId): Promise<EvtchnPort> {
    return await this.#opened(await this.#hypercalls.allocUnbound(this.domain, remote));
  }

  async bindInterdomain(remote: DomId, remotePort: EvtchnPort): Promise<EvtchnPort> {
    return await this.#opened(await this.#hypercalls.bindInterdomain(remote, remotePort));
  }

  async bindVirq(virq: number, vcpu: number = 0): Promise<EvtchnPort> {
    return await this.#opened(await this.#hypercalls.bindVirq(virq, vcpu));
  }

  async bindIpi(vcpu: number): Promise<EvtchnPort> {
    return await this.#opened(await this.#hypercalls.bindIpi(vcpu));
  }

  async bindVcpu(port: EvtchnPort, vcpu: number): Promise<void> {
    const wasOpen = this.#isPort(port) && !this.#isMasked(port);
    // An event that comes in between is told to the new vCPU by the unmasking.
    if (wasOpen) this.#mask(port);
    try {
      await this.#hypercalls.bindVcpu(port, vcpu);
    } finally {
      if (wasOpen && this.#handlers[port] !== undefined) this.#unmask(port);
    }
  }

  setPriority(port: EvtchnPort, priority: number): Promise<void> {
    return this.#hypercalls.setPriority(port, priority);
  }

  async close(port: EvtchnPort): Promise<void> {
    // Before the hypervisor can give the number away again: the mask stays for its next owner.
    if (this.#isPort(port)) this.#dropHandler(port);
    await this.#hypercalls.close(port);
  }

  async reset(): Promise<void> {
    for (const [port, handler] of this.#handlers.entries())
      if (handler !== undefined) this.#dropHandler(port as EvtchnPort);
    await this.#hypercalls.reset(this.domain);
    this.#fifo = undefined;
    maskAllPorts(this.#own);
  }

  status(port: EvtchnPort): Promise<EventChannelStatus> {
    return this.#hypercalls.status(this.domain, port);
  }

  send(port: EvtchnPort): boolean {
    if (!this.#isPort(port)) return false;
    const words = this.#portTable.region.i32;
    const entry = portEntryIndex(this.#portTable, port);
    const word = words[entry]!;
    if (word === 0) return Atomics.load(words, entry + 1) === EVTCHNSTAT_unbound;
    const domain = sendWordDomain(word) as DomId;
    const target = domain === this.domain ? this.#own : this.#peers.target(domain);
    if (target !== undefined) return postEvent(target, sendWordPort(word), this.domain);
    this.#waiting.add(domain, port);
    return true;
  }

  mask(port: EvtchnPort): void {
    this.#requirePort(port);
    this.#mask(port);
  }

  unmask(port: EvtchnPort): void {
    this.#requirePort(port);
    if (this.#handlers[port] !== undefined) this.#unmask(port);
  }

  onEvent(port: EvtchnPort, handler: (() => void) | undefined): void {
    this.#requirePort(port);
    if (handler === undefined) {
      this.#dropHandler(port);
      return;
    }
    const isFirst = this.#handlers[port] === undefined;
    while (this.#handlers.length < port) this.#handlers.push(undefined);
    this.#handlers[port] = handler;
    if (isFirst) this.#unmask(port);
  }

  hasPending(vcpu?: number): boolean {
    if (vcpu !== undefined) return this.#hasUpcall(vcpu);
    for (let each = 0; each < this.#vcpuCount; each++) if (this.#hasUpcall(each)) return true;
    return false;
  }

  dispatch(vcpu?: number): number {
    if (vcpu !== undefined) return this.#dispatch(vcpu);
    let ran = 0;
    for (let each = 0; each < this.#vcpuCount; each++) ran += this.#dispatch(each);
    return ran;
  }

  maskUpcall(vcpu: number = 0): void {
    this.#requireVcpu(vcpu);
    Atomics.store(this.#own.region.u8, upcallMaskIndex(this.#own, vcpu), 1);
  }

  unmaskUpcall(vcpu: number = 0): void {
    this.#requireVcpu(vcpu);
    Atomics.store(this.#own.region.u8, upcallMaskIndex(this.#own, vcpu), 0);
    if (this.#hasUpcall(vcpu)) this.#own.wake();
  }

  openPorts(): readonly EvtchnPort[] {
    const { delivery, region } = this.#own;
    const valid = delivery === undefined ? this.#portCount : Atomics.load(region.u32, delivery.validPorts);
    const count = Math.min(valid, this.#portCount);
    const open: EvtchnPort[] = [];
    for (let port = 1; port < count; port++) {
      const status = Atomics.load(this.#portTable.region.i32, portEntryIndex(this.#portTable, port) + 1);
      if (status !== EVTCHNSTAT_closed) open.push(evtchnPort(port));
    }
    return open;
  }

  #hasUpcall(vcpu: number): boolean {
    this.#requireVcpu(vcpu);
    if (!this.#scanners[vcpu]!.hasPending()) return false;
    return Atomics.load(this.#own.region.u8, upcallMaskIndex(this.#own, vcpu)) === 0;
  }

  #dispatch(vcpu: number): number {
    this.#requireVcpu(vcpu);
    const { u8 } = this.#own.region;
    if (Atomics.load(u8, upcallMaskIndex(this.#own, vcpu)) !== 0) return 0;
    const scanner = this.#scanners[vcpu]!;
    const fifo = this.#fifo;
    if (fifo === undefined) return scanner.round();
    Atomics.store(u8, upcallIndex(this.#own, vcpu), 0);
    if (scanner.isSelected()) scanner.round();
    const ran = fifo.round(vcpu);
    if (fifo.hasLeft(vcpu)) {
      Atomics.store(u8, upcallIndex(this.#own, vcpu), 1);
      this.#own.wake();
    }
    return ran;
  }

  /** A port that was found in the bitmaps. */
  #runBit(port: number): boolean {
    if (this.#fifo === undefined) return this.#runHandler(port);
    this.#fifo.post(port);
    return false;
  }

  #runHandler(port: number): boolean {
    const handler = this.#handlers[port];
    if (handler === undefined) return false;
    try {
      handler();
    } catch (error) {
      this.#onHandlerError(error, port as EvtchnPort);
    }
    return true;
  }

  /** Events on a port that we opened can be delivered. If that fails, the port is not left open. */
  async #opened(port: EvtchnPort): Promise<EvtchnPort> {
    if (this.#fifo === undefined) return port;
    try {
      await this.#fifo.addPageOf(port);
    } catch (error) {
      await this.#hypercalls.close(port);
      throw error;
    }
    return port;
  }

  #isMasked(port: number): boolean {
    return this.#fifo === undefined ? isMasked(this.#own, port) : this.#fifo.isMasked(port);
  }

  #mask(port: number): void {
    this.#fifo?.mask(port);
    if (this.#isInBitmaps(port)) maskPort(this.#own, port);
  }

  #unmask(port: number): void {
    const fifo = this.#fifo;
    if (fifo !== undefined) {
      // Somebody else may have opened the port for us. The hypervisor keeps its events until the page is there.
      if (!fifo.hasPageOf(port)) fifo.addPageOf(port).catch(() => {});
      fifo.unmask(port);
    }
    if (this.#isInBitmaps(port)) unmaskPort(this.#own, port, routedVcpu(this.#own, port));
  }

  #isInBitmaps(port: number): boolean {
    return (this.#fifo === undefined || this.#isSwitching) && port < EVTCHN_2L_NR_CHANNELS;
  }

  #dropHandler(port: EvtchnPort): void {
    this.#mask(port);
    this.#handlers[port] = undefined;
  }

  #isPort(port: EvtchnPort): boolean {
    return port > 0 && port < this.#portLimit();
  }

  #requirePort(port: EvtchnPort): void {
    if (!this.#isPort(port)) throw new RangeError(`Port ${port} is not one of 1 to ${this.#portLimit() - 1}`);
  }

  /** Ports of the ABI in use. */
  #portLimit(): number {
    return this.#fifo?.portCount ?? Math.min(this.#portCount, EVTCHN_2L_NR_CHANNELS);
  }

  #requireVcpu(vcpu: number): void {
    if (!(vcpu >= 0 && vcpu < this.#vcpuCount))
      throw new RangeError(`vCPU ${vcpu} is not one of 0 to ${this.#vcpuCount - 1}`);
  }
}

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
