import { type DomId, type EvtchnPort, domId } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_ipi,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
  EVTCHN_2L_NR_CHANNELS,
  NR_VIRQS,
} from '@virtlab/abi/event-channel';
import { DOMID_SELF } from '@virtlab/abi/xen';
import {
  EventChannelError,
  type EventChannelStatus,
  type EventTarget,
  type PortTableView,
} from './contract.ts';
import { DomainPorts } from './domain-ports.ts';
import { repostPending, setPending, unmaskPort } from './two-level.ts';
import { virqKind } from './virq-kind.ts';

/** A domain has one vCPU here. */
const VCPU = 0;
/** Highest port of an unprivileged domain unless said otherwise (xl.cfg, `max_event_channels`). */
const GUEST_PORT_MAX = 1023;

export interface PortTablesOptions {
  domainExists(domain: DomId): boolean;
  /** Asked once, when the domain is added. */
  targetOf(domain: DomId): EventTarget | undefined;
  isPrivileged(domain: DomId): boolean;
  /** Highest port number of a domain; by default 4095 for privileged domains and 1023 for others. */
  portCountMax?(domain: DomId): number;
  /** The domain that may bind a global VIRQ; by default domain 0. */
  globalVirqHandler?(virq: number): DomId;
  /** Whether another domain may `reset` it; by default never. */
  isPaused?(domain: DomId): boolean;
}

/** A port that `removeDomain` closed, with the peer whose port is now unbound if it was connected. */
export interface ClosedPort {
  readonly port: EvtchnPort;
  readonly was: EventChannelStatus;
}

/**
 * The hypervisor's side: all port tables of a machine. `caller` is the domain that asks; the rest is as it came from it, so
 * any number is allowed and answered with an error code. Operations are synchronous and throw `EventChannelError`
 * with the codes of Xen common/event_channel.c; `DOMID_SELF` names the caller where Xen takes it.
 */
export interface PortTables {
  /** Begins with all ports closed; `portTable` must be zero. Throws `TypeError` without a target or if added twice. */
  addDomain(domain: DomId, portTable: PortTableView): void;
  /**
   * Closes all ports of a domain that died: peers' ports fall back to unbound, reserved for it. What it may have left half
   * posted in other domains is completed. Nothing for an unknown domain.
   */
  removeDomain(domain: DomId): readonly ClosedPort[];
  /** ESRCH, EPERM, ENOSPC. */
  allocUnbound(caller: DomId, domain: DomId, remote: DomId): EvtchnPort;
  /** ESRCH, ENOSPC, EINVAL. On success the new port is pending: events sent before it existed were dropped. */
  bindInterdomain(caller: DomId, remote: DomId, remotePort: EvtchnPort): EvtchnPort;
  /** EINVAL, ENOENT, EBUSY, EEXIST, ENOSPC. */
  bindVirq(caller: DomId, virq: number, vcpu: number): EvtchnPort;
  /** ENOENT, ENOSPC. */
  bindIpi(caller: DomId, vcpu: number): EvtchnPort;
  /** ENOENT, EINVAL. */
  bindVcpu(caller: DomId, port: EvtchnPort, vcpu: number): void;
  /** EINVAL. */
  close(caller: DomId, port: EvtchnPort): void;
  /** ESRCH, EINVAL, EPERM. */
  status(caller: DomId, domain: DomId, port: EvtchnPort): EventChannelStatus;
  /** EINVAL. */
  unmask(caller: DomId, port: EvtchnPort): void;
  /** Closes all ports of a domain. ESRCH, EPERM, EINVAL. */
  reset(caller: DomId, domain: DomId): void;
  /** FIFO ABI: always ENOSYS. */
  initControl(caller: DomId): never;
  /** FIFO ABI: EOPNOTSUPP, as the domain does not use it. */
  expandArray(caller: DomId): never;
  /** FIFO ABI: EINVAL for a bad port, ENOSYS otherwise. */
  setPriority(caller: DomId, port: EvtchnPort, priority: number): never;
  /** Raises a VIRQ; false if the domain is unknown or has not bound it. */
  sendVirq(domain: DomId, virq: number): boolean;
  /** Empty for an unknown domain. */
  openPorts(domain: DomId): readonly EvtchnPort[];
}

export function createPortTables(options: PortTablesOptions): PortTables {
  return new MachinePorts(options);
}

class MachinePorts implements PortTables {
  readonly #options: PortTablesOptions;
  readonly #domains = new Map<DomId, DomainPorts>();

  constructor(options: PortTablesOptions) {
    this.#options = options;
  }

  addDomain(domain: DomId, portTable: PortTableView): void {
    const target = this.#options.targetOf(domain);
    if (target === undefined) throw new TypeError(`Domain ${domain} has no event target`);
    if (this.#domains.has(domain)) throw new TypeError(`Domain ${domain} has its ports already`);
    const portMax =
      this.#options.portCountMax?.(domain) ??
      (this.#options.isPrivileged(domain) ? EVTCHN_2L_NR_CHANNELS - 1 : GUEST_PORT_MAX);
    this.#domains.set(domain, new DomainPorts(domain, target, portTable, portMax));
  }

  removeDomain(domain: DomId): readonly ClosedPort[] {
    const ports = this.#domains.get(domain);
    if (ports === undefined) return [];
    const closed = ports.openPorts().map((port) => ({ port, was: ports.statusOf(port) }));
    for (const { port } of closed) this.#closePort(ports, port);
    this.#domains.delete(domain);
    for (const survivor of this.#domains.values()) repostPending(survivor.target, VCPU);
    return closed;
  }

  allocUnbound(caller: DomId, domain: DomId, remote: DomId): EvtchnPort {
    const ports = this.#find(caller, domain);
    const port = ports.lowestFree();
    this.#requireControl(caller, ports.domain, 'allocate ports of');
    ports.setUnbound(port, remote === DOMID_SELF ? caller : remote);
    return port;
  }

  bindInterdomain(caller: DomId, remote: DomId, remotePort: EvtchnPort): EvtchnPort {
    const remotePorts = this.#find(caller, remote);
    const ports = this.#find(caller, caller);
    const port = ports.lowestFree();
    const isFree = remotePorts.isValid(remotePort) && remotePorts.stateOf(remotePort) === EVTCHNSTAT_unbound;
    if (!isFree || remotePorts.remoteDomainOf(remotePort) !== caller) {
      throw invalid(`Port ${remotePort} of domain ${remotePorts.domain} does not wait for domain ${caller}`);
    }
    ports.setInterdomain(port, remotePorts.domain, remotePort);
    remotePorts.setInterdomain(remotePort, caller, port);
    setPending(ports.target, port, VCPU);
    return port;
  }

  bindVirq(caller: DomId, virq: number, vcpu: number): EvtchnPort {
    if (!Number.isInteger(virq) || virq < 0 || virq >= NR_VIRQS) throw invalid(`There is no VIRQ ${virq}`);
    const kind = virqKind(virq);
    if (kind !== 'vcpu' && vcpu !== VCPU) throw invalid(`VIRQ ${virq} is ${kind} and not for vCPU ${vcpu}`);
    requireVcpu(vcpu);
    const ports = this.#find(caller, caller);
    const handler = this.#options.globalVirqHandler?.(virq) ?? domId(0);
    if (kind === 'global' && handler !== caller) {
      throw new EventChannelError('EBUSY', `VIRQ ${virq} belongs to domain ${handler}`);
    }
    if (ports.portOfVirq(virq) !== 0) {
      throw new EventChannelError('EEXIST', `VIRQ ${virq} is bound to port ${ports.portOfVirq(virq)}`);
    }
    const port = ports.lowestFree();
    ports.setVirq(port, virq);
    return port;
  }

  bindIpi(caller: DomId, vcpu: number): EvtchnPort {
    requireVcpu(vcpu);
    const ports = this.#find(caller, caller);
    const port = ports.lowestFree();
    ports.setIpi(port);
    return port;
  }

  bindVcpu(caller: DomId, port: EvtchnPort, vcpu: number): void {
    requireVcpu(vcpu);
    const ports = this.#find(caller, caller);
    requireValid(ports, port);
    const state = ports.stateOf(port);
    const isFixed = state === EVTCHNSTAT_virq && virqKind(ports.virqOf(port)) === 'vcpu';
    if (state === EVTCHNSTAT_closed || state === EVTCHNSTAT_ipi || isFixed) {
      throw invalid(`Port ${port} cannot be moved to a vCPU`);
    }
  }

  close(caller: DomId, port: EvtchnPort): void {
    const ports = this.#find(caller, caller);
    requireValid(ports, port);
    if (ports.stateOf(port) === EVTCHNSTAT_closed)
      throw invalid(`Port ${port} of domain ${caller} is not open`);
    this.#closePort(ports, port);
  }

  status(caller: DomId, domain: DomId, port: EvtchnPort): EventChannelStatus {
    const ports = this.#find(caller, domain);
    requireValid(ports, port);
    this.#requireControl(caller, ports.domain, 'read ports of');
    return ports.statusOf(port);
  }

  unmask(caller: DomId, port: EvtchnPort): void {
    const ports = this.#find(caller, caller);
    requireValid(ports, port);
    unmaskPort(ports.target, port, VCPU);
  }

  reset(caller: DomId, domain: DomId): void {
    const ports = this.#find(caller, domain);
    this.#requireControl(caller, ports.domain, 'reset');
    if (ports.domain !== caller && this.#options.isPaused?.(ports.domain) !== true) {
      throw invalid(`Domain ${ports.domain} is not paused`);
    }
    for (const port of ports.openPorts()) this.#closePort(ports, port);
  }

  initControl(_caller: DomId): never {
    throw new EventChannelError('ENOSYS', 'There is no FIFO ABI');
  }

  expandArray(caller: DomId): never {
    throw new EventChannelError('EOPNOTSUPP', `Domain ${caller} does not use the FIFO ABI`);
  }

  setPriority(caller: DomId, port: EvtchnPort, _priority: number): never {
    requireValid(this.#find(caller, caller), port);
    throw new EventChannelError('ENOSYS', `Port ${port} has no priority under the 2-level ABI`);
  }

  sendVirq(domain: DomId, virq: number): boolean {
    const ports = this.#domains.get(domain);
    const port = ports?.portOfVirq(virq) ?? 0;
    if (ports === undefined || port === 0) return false;
    setPending(ports.target, port, VCPU);
    return true;
  }

  openPorts(domain: DomId): readonly EvtchnPort[] {
    return this.#domains.get(domain)?.openPorts() ?? [];
  }

  #closePort(ports: DomainPorts, port: EvtchnPort): void {
    const peer =
      ports.stateOf(port) === EVTCHNSTAT_interdomain
        ? this.#domains.get(ports.remoteDomainOf(port))
        : undefined;
    const peerPort = ports.remotePortOf(port);
    // The peer stops sending here before the pending bit is taken back.
    peer?.setUnbound(peerPort, ports.domain);
    ports.free(port);
  }

  #find(caller: DomId, domain: DomId): DomainPorts {
    const id = domain === DOMID_SELF ? caller : domain;
    const ports = this.#options.domainExists(id) ? this.#domains.get(id) : undefined;
    if (ports === undefined) throw new EventChannelError('ESRCH', `There is no domain ${domain}`);
    return ports;
  }

  #requireControl(caller: DomId, domain: DomId, action: string): void {
    if (caller === domain || this.#options.isPrivileged(caller)) return;
    throw new EventChannelError('EPERM', `Domain ${caller} may not ${action} domain ${domain}`);
  }
}

function requireVcpu(vcpu: number): void {
  if (vcpu !== VCPU) throw new EventChannelError('ENOENT', `There is no vCPU ${vcpu}`);
}

function requireValid(ports: DomainPorts, port: number): void {
  if (!ports.isValid(port)) throw invalid(`Domain ${ports.domain} has no port ${port}`);
}

function invalid(message: string): EventChannelError {
  return new EventChannelError('EINVAL', message);
}
