import { type DomId, type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_ipi,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
  NR_VIRQS,
} from '@virtlab/abi/event-channel';
import {
  EventChannelError,
  type EventChannelStatus,
  type EventTarget,
  type PortTableView,
} from './contract.ts';
import { portEntryIndex, sendWord, usablePortCount } from './port-table.ts';
import { clearPending } from './two-level.ts';

/** A domain has one vCPU here. */
const VCPU = 0;

/**
 * The ports of one domain as the hypervisor holds them. The state is private; the domain's port table is written from it
 * and never read back. Everything is synchronous, so every operation is atomic against the others.
 */
export class DomainPorts {
  readonly domain: DomId;
  readonly target: EventTarget;
  readonly #table: PortTableView;
  /** `EVTCHNSTAT_*` by port. */
  readonly #state: Uint8Array;
  readonly #remoteDomain: Uint16Array;
  /** The remote port, or the VIRQ. */
  readonly #remotePort: Uint32Array;
  readonly #portOfVirq = new Uint32Array(NR_VIRQS);
  /** No port below is free. */
  #freeFrom = 1;

  /** `portMax` is the highest port number that may be allocated. */
  constructor(domain: DomId, target: EventTarget, table: PortTableView, portMax: number) {
    const count = Math.min(usablePortCount(table), portMax + 1);
    this.domain = domain;
    this.target = target;
    this.#table = table;
    this.#state = new Uint8Array(count);
    this.#remoteDomain = new Uint16Array(count);
    this.#remotePort = new Uint32Array(count);
  }

  /** Port 0 is valid, but nothing can be done with it (Xen reserves it). */
  isValid(port: number): boolean {
    return Number.isInteger(port) && port >= 0 && port < this.#state.length;
  }

  /** `EVTCHNSTAT_*` of a valid port. */
  stateOf(port: number): number {
    return this.#state[port]!;
  }

  /** The lowest free port; it stays free until one of the `set…` takes it. Throws `ENOSPC`. */
  lowestFree(): EvtchnPort {
    let port = this.#freeFrom;
    while (port < this.#state.length && this.#state[port] !== EVTCHNSTAT_closed) port += 1;
    this.#freeFrom = port;
    if (port < this.#state.length) return evtchnPort(port);
    throw new EventChannelError(
      'ENOSPC',
      `Domain ${this.domain} has all its ${this.#state.length - 1} ports in use`,
    );
  }

  setUnbound(port: EvtchnPort, remote: DomId): void {
    this.#set(port, EVTCHNSTAT_unbound, remote, 0, 0);
  }

  setInterdomain(port: EvtchnPort, remote: DomId, remotePort: EvtchnPort): void {
    this.#set(port, EVTCHNSTAT_interdomain, remote, remotePort, sendWord(remote, remotePort));
  }

  setVirq(port: EvtchnPort, virq: number): void {
    this.#portOfVirq[virq] = port;
    this.#set(port, EVTCHNSTAT_virq, 0, virq, 0);
  }

  setIpi(port: EvtchnPort): void {
    this.#set(port, EVTCHNSTAT_ipi, 0, 0, sendWord(this.domain, port));
  }

  /** Frees a port and takes its pending event back, so that the next owner of the number does not find it. */
  free(port: EvtchnPort): void {
    if (this.#state[port] === EVTCHNSTAT_virq) this.#portOfVirq[this.#remotePort[port]!] = 0;
    this.#set(port, EVTCHNSTAT_closed, 0, 0, 0);
    clearPending(this.target, port);
    this.#freeFrom = Math.min(this.#freeFrom, port);
  }

  /** The port that a VIRQ is bound to; 0 if none. */
  portOfVirq(virq: number): number {
    return this.#portOfVirq[virq]!;
  }

  virqOf(port: number): number {
    return this.#remotePort[port]!;
  }

  remoteDomainOf(port: number): DomId {
    return domId(this.#remoteDomain[port]!);
  }

  remotePortOf(port: number): EvtchnPort {
    return evtchnPort(this.#remotePort[port]!);
  }

  statusOf(port: number): EventChannelStatus {
    const remote = this.remoteDomainOf(port);
    switch (this.stateOf(port)) {
      case EVTCHNSTAT_unbound:
        return { kind: 'unbound', remote };
      case EVTCHNSTAT_interdomain:
        return { kind: 'interdomain', remote, remotePort: this.remotePortOf(port) };
      case EVTCHNSTAT_virq:
        return { kind: 'virq', virq: this.virqOf(port) };
      case EVTCHNSTAT_ipi:
        return { kind: 'ipi', vcpu: VCPU };
      default:
        return { kind: 'closed' };
    }
  }

  openPorts(): readonly EvtchnPort[] {
    const open: EvtchnPort[] = [];
    for (let port = 1; port < this.#state.length; port++) {
      if (this.#state[port] !== EVTCHNSTAT_closed) open.push(evtchnPort(port));
    }
    return open;
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
