import { type DomId, type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_ipi,
  EVTCHNSTAT_pirq,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
  EVTCHN_2L_NR_CHANNELS,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  NR_VIRQS,
} from '@virtlab/abi/event-channel';
import { DOMID_XEN } from '@virtlab/abi/xen';
import {
  type EventAbi,
  EventChannelError,
  type EventChannelStatus,
  type EventTarget,
  type PortTableView,
} from './contract.ts';
import { QUEUES_PER_VCPU_SHIFT } from './delivery-area.ts';
import { LINKED, PENDING, eventWordIndex } from './fifo-words.ts';
import { portEntryIndex, sendWord, usablePortCount } from './port-table.ts';
import { postEvent } from './post.ts';
import { clearPending } from './two-level.ts';

/** Xen allocates ports by pages of `struct evtchn`, 64 to a page (xen/sched.h); those of a page become valid together. */
const PORTS_PER_BUCKET = 64;

export interface DomainPortsOptions {
  readonly domain: DomId;
  readonly target: EventTarget;
  readonly table: PortTableView;
  /** The highest port number that may be allocated. */
  readonly portMax: number;
  readonly vcpuCount: number;
}

/**
 * The ports of one domain as the hypervisor holds them. The state is private; the domain's port table and what senders know of
 * it are written from it and never read back. Everything is synchronous, so every operation is atomic against the others.
 */
export class DomainPorts {
  readonly domain: DomId;
  readonly target: EventTarget;
  readonly vcpuCount: number;
  readonly #table: PortTableView;
  readonly #portMax: number;
  readonly #tableCount: number;
  #validCount = 0;
  /** `EVTCHNSTAT_*` by port. */
  #state = new Uint8Array(0);
  #remoteDomain = new Uint16Array(0);
  /** The remote port, the VIRQ, or the PIRQ. */
  #remotePort = new Uint32Array(0);
  /** `vcpu << 4 | priority`. */
  #route = new Uint16Array(0);
  /** By vCPU and VIRQ. */
  readonly #portOfVirq: Uint32Array;
  readonly #portOfPirq = new Map<number, EvtchnPort>();
  /** No port below is free. */
  #freeFrom = 1;
  abi: EventAbi = '2l';

  constructor({ domain, target, table, portMax, vcpuCount }: DomainPortsOptions) {
    this.domain = domain;
    this.target = target;
    this.vcpuCount = vcpuCount;
    this.#table = table;
    this.#portMax = portMax;
    this.#tableCount = Math.min(usablePortCount(table), target.delivery?.portCount ?? EVTCHN_2L_NR_CHANNELS);
    this.#portOfVirq = new Uint32Array(NR_VIRQS * vcpuCount);
    const { delivery, region } = target;
    if (delivery !== undefined) Atomics.store(region.i32, delivery.vcpuCount, vcpuCount);
    this.#makeValid(0);
  }

  /** Port 0 is valid, but nothing can be done with it (Xen reserves it). */
  isValid(port: number): boolean {
    return Number.isInteger(port) && port >= 0 && port < this.#validCount;
  }

  /** Ports that are valid, port 0 included. */
  get validCount(): number {
    return this.#validCount;
  }

  /** `EVTCHNSTAT_*` of a valid port. */
  stateOf(port: number): number {
    return this.#state[port]!;
  }

  /** The lowest free port; it stays free until one of the `set…` takes it. Throws `ENOSPC`. */
  lowestFree(): EvtchnPort {
    const abiCount =
      this.abi === 'fifo' ? this.#tableCount : Math.min(this.#tableCount, EVTCHN_2L_NR_CHANNELS);
    const count = Math.min(abiCount, this.#portMax + 1);
    let firstBusy = 0;
    for (let port = this.#freeFrom; port < count; port++) {
      if (port >= this.#validCount) this.#makeValid(port);
      if (this.#state[port] !== EVTCHNSTAT_closed) continue;
      if (!this.#isBusy(port)) {
        this.#freeFrom = firstBusy === 0 ? port : firstBusy;
        return evtchnPort(port);
      }
      firstBusy ||= port;
    }
    throw new EventChannelError('ENOSPC', `Domain ${this.domain} has all its ${count - 1} ports in use`);
  }

  setUnbound(port: EvtchnPort, remote: DomId): void {
    this.#set(port, EVTCHNSTAT_unbound, remote, 0, 0);
  }

  setInterdomain(port: EvtchnPort, remote: DomId, remotePort: EvtchnPort): void {
    this.#set(port, EVTCHNSTAT_interdomain, remote, remotePort, sendWord(remote, remotePort));
  }

  setPirq(port: EvtchnPort, pirq: number): void {
    this.#portOfPirq.set(pirq, port);
    this.#set(port, EVTCHNSTAT_pirq, 0, pirq, 0);
  }

  setVirq(port: EvtchnPort, virq: number, vcpu: number): void {
    this.#portOfVirq[vcpu * NR_VIRQS + virq] = port;
    this.#setRoute(port, vcpu, EVTCHN_FIFO_PRIORITY_DEFAULT);
    this.#set(port, EVTCHNSTAT_virq, 0, virq, 0);
  }

  setIpi(port: EvtchnPort, vcpu: number): void {
    this.#setRoute(port, vcpu, EVTCHN_FIFO_PRIORITY_DEFAULT);
    this.#set(port, EVTCHNSTAT_ipi, 0, 0, sendWord(this.domain, port));
  }

  setVcpu(port: EvtchnPort, vcpu: number): void {
    this.#setRoute(port, vcpu, this.#route[port]! & ((1 << QUEUES_PER_VCPU_SHIFT) - 1));
  }

  setPriority(port: EvtchnPort, priority: number): void {
    this.#setRoute(port, this.vcpuOf(port), priority);
  }

  /** Frees a port and takes its pending event back, so that the next owner of the number does not find it. */
  free(port: EvtchnPort): void {
    const state = this.#state[port];
    if (state === EVTCHNSTAT_virq) {
      const at = this.#portOfVirq.indexOf(port);
      if (at >= 0) this.#portOfVirq[at] = 0;
    }
    if (state === EVTCHNSTAT_pirq) this.#portOfPirq.delete(this.#remotePort[port]!);
    this.#set(port, EVTCHNSTAT_closed, 0, 0, 0);
    this.#clearPending(port);
    this.#setRoute(port, 0, EVTCHN_FIFO_PRIORITY_DEFAULT);
    this.#freeFrom = Math.min(this.#freeFrom, port);
  }

  /** Posts an event, as the hypervisor. */
  post(port: number): void {
    postEvent(this.target, port, DOMID_XEN);
  }

  /** The port that a vCPU has bound a VIRQ to; 0 if none. Other than per-vCPU ones are vCPU 0's. */
  portOfVirq(virq: number, vcpu: number): number {
    return this.#portOfVirq[vcpu * NR_VIRQS + virq]!;
  }

  /** 0 if none. */
  portOfPirq(pirq: number): number {
    return this.#portOfPirq.get(pirq) ?? 0;
  }

  virqOf(port: number): number {
    return this.#remotePort[port]!;
  }

  vcpuOf(port: number): number {
    return this.#route[port]! >>> QUEUES_PER_VCPU_SHIFT;
  }

  remoteDomainOf(port: number): DomId {
    return domId(this.#remoteDomain[port]!);
  }

  remotePortOf(port: number): EvtchnPort {
    return evtchnPort(this.#remotePort[port]!);
  }

  statusOf(port: number): EventChannelStatus {
    const vcpu = this.vcpuOf(port);
    const remote = this.remoteDomainOf(port);
    switch (this.stateOf(port)) {
      case EVTCHNSTAT_unbound:
        return { kind: 'unbound', vcpu, remote };
      case EVTCHNSTAT_interdomain:
        return { kind: 'interdomain', vcpu, remote, remotePort: this.remotePortOf(port) };
      case EVTCHNSTAT_pirq:
        return { kind: 'pirq', vcpu, pirq: this.#remotePort[port]! };
      case EVTCHNSTAT_virq:
        return { kind: 'virq', vcpu, virq: this.virqOf(port) };
      case EVTCHNSTAT_ipi:
        return { kind: 'ipi', vcpu };
      default:
        return { kind: 'closed', vcpu };
    }
  }

  openPorts(): readonly EvtchnPort[] {
    const open: EvtchnPort[] = [];
    for (let port = 1; port < this.#validCount; port++) {
      if (this.#state[port] !== EVTCHNSTAT_closed) open.push(evtchnPort(port));
    }
    return open;
  }

  /** A closed port that is still on a queue: its receiver has to take it off first. */
  #isBusy(port: number): boolean {
    const { delivery, region } = this.target;
    if (this.abi !== 'fifo' || delivery === undefined) return false;
    const at = eventWordIndex(region.i32, delivery, port);
    return at >= 0 && (Atomics.load(region.i32, at) & LINKED) !== 0;
  }

  #clearPending(port: number): void {
    const { delivery, region } = this.target;
    if (this.abi === '2l' || delivery === undefined) return clearPending(this.target, port);
    Atomics.and(region.i32, delivery.deferred + (port >>> 5), ~(1 << (port & 31)));
    const at = eventWordIndex(region.i32, delivery, port);
    if (at >= 0) Atomics.and(region.i32, at, ~PENDING);
  }

  #makeValid(port: number): void {
    const count = Math.min((Math.trunc(port / PORTS_PER_BUCKET) + 1) * PORTS_PER_BUCKET, this.#tableCount);
    if (count > this.#state.length) this.#grow(Math.min(count * 2, this.#tableCount));
    const first = this.#validCount;
    this.#validCount = count;
    for (let each = first; each < count; each++) this.#setRoute(each, 0, EVTCHN_FIFO_PRIORITY_DEFAULT);
    const { delivery, region } = this.target;
    if (delivery !== undefined) Atomics.store(region.i32, delivery.validPorts, count);
  }

  #grow(size: number): void {
    const grown = <T extends Uint8Array | Uint16Array | Uint32Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.#state = grown(this.#state, new Uint8Array(size));
    this.#remoteDomain = grown(this.#remoteDomain, new Uint16Array(size));
    this.#remotePort = grown(this.#remotePort, new Uint32Array(size));
    this.#route = grown(this.#route, new Uint16Array(size));
  }

  #setRoute(port: number, vcpu: number, priority: number): void {
    const route = (vcpu << QUEUES_PER_VCPU_SHIFT) | priority;
    this.#route[port] = route;
    const { delivery, region } = this.target;
    if (delivery !== undefined) Atomics.store(region.u16, delivery.route + port, route);
  }

  /**
   * Word 1 (the state) before word 0 when a send may begin, word 0 first when it must end: a sender, who reads word 0
   * and only without one word 1, finds the old target or the new one and never a state without its target.
   */
  #set(port: EvtchnPort, state: number, remote: number, remotePort: number, send: number): void {
    this.#state[port] = state;
    this.#remoteDomain[port] = remote;
    this.#remotePort[port] = remotePort;
    const words = this.#table.region.i32;
    const entry = portEntryIndex(this.#table, port);
    if (send === 0) Atomics.store(words, entry, 0);
    Atomics.store(words, entry + 1, state);
    if (send !== 0) Atomics.store(words, entry, send);
  }
}
