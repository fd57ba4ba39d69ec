import { type DomId, type EvtchnPort, domId } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_ipi,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PRIORITY_MIN,
  NR_VIRQS,
} from '@virtlab/abi/event-channel';
import { DOMID_SELF, XEN_LEGACY_MAX_VCPUS } from '@virtlab/abi/xen';
import { type EventAbi, EventChannelError, type EventChannelStatus, type PortTableView } from './contract.ts';
import { DomainPorts } from './domain-ports.ts';
import { FifoControl } from './fifo-control.ts';
import { MASKED, PENDING, eventWordIndex } from './fifo-words.ts';
import { completeFifo } from './fifo-recovery.ts';
import type { ClosedPort, PortTables, PortTablesOptions } from './port-tables-contract.ts';
import { repostPending, unmaskPort } from './two-level.ts';
import { virqKind } from './virq-kind.ts';

/** Highest port of an unprivileged domain unless said otherwise (xl.cfg, `max_event_channels`). */
const GUEST_PORT_MAX = 1023;

export function createPortTables(options: PortTablesOptions): PortTables {
  return new MachinePorts(options);
}

interface DomainRecord {
  readonly ports: DomainPorts;
  readonly fifo: FifoControl;
}

class MachinePorts implements PortTables {
  readonly #options: PortTablesOptions;
  readonly #domains = new Map<DomId, DomainRecord>();

  constructor(options: PortTablesOptions) {
    this.#options = options;
  }

  addDomain(domain: DomId, portTable: PortTableView): void {
    const target = this.#options.targetOf(domain);
    if (target === undefined) throw new TypeError(`Domain ${domain} has no event target`);
    if (this.#domains.has(domain)) throw new TypeError(`Domain ${domain} has its ports already`);
    const portMax =
      this.#options.portCountMax?.(domain) ??
      (this.#options.isPrivileged(domain) ? EVTCHN_FIFO_NR_CHANNELS - 1 : GUEST_PORT_MAX);
    const vcpuCount = this.#options.vcpuCount?.(domain) ?? 1;
    const vcpuMax = target.delivery?.vcpuMax ?? 1;
    if (!(vcpuCount >= 1 && vcpuCount <= Math.min(vcpuMax, XEN_LEGACY_MAX_VCPUS)))
      throw new TypeError(`Domain ${domain} cannot have ${vcpuCount} vCPUs`);
    const ports = new DomainPorts({ domain, target, table: portTable, portMax, vcpuCount });
    this.#domains.set(domain, { ports, fifo: new FifoControl(ports) });
  }

  removeDomain(domain: DomId, isStopped: boolean = true): readonly ClosedPort[] {
    const ports = this.#domains.get(domain)?.ports;
    if (ports === undefined) return [];
    const closed = ports.openPorts().map((port) => ({ port, was: ports.statusOf(port) }));
    for (const { port } of closed) this.#closePort(ports, port);
    this.#domains.delete(domain);
    if (isStopped) this.completeSends(domain);
    return closed;
  }

  completeSends(domain: DomId): void {
    for (const { ports } of this.#domains.values()) {
      const { target } = ports;
      for (let vcpu = 0; vcpu < ports.vcpuCount; vcpu++) repostPending(target, vcpu);
      if (ports.abi === 'fifo' && target.delivery !== undefined)
        completeFifo(target, target.delivery, domain, ports.validCount);
    }
  }

  allocUnbound(caller: DomId, domain: DomId, remote: DomId): EvtchnPort {
    const { ports } = this.#find(caller, domain);
    const port = ports.lowestFree();
    this.#requireControl(caller, ports.domain, 'allocate ports of');
    ports.setUnbound(port, remote === DOMID_SELF ? caller : remote);
    return port;
  }

  bindInterdomain(caller: DomId, remote: DomId, remotePort: EvtchnPort): EvtchnPort {
    const { ports: remotePorts } = this.#find(caller, remote);
    const { ports } = this.#find(caller, caller);
    const port = ports.lowestFree();
    const isFree = remotePorts.isValid(remotePort) && remotePorts.stateOf(remotePort) === EVTCHNSTAT_unbound;
    if (!isFree || remotePorts.remoteDomainOf(remotePort) !== caller) {
      throw invalid(`Port ${remotePort} of domain ${remotePorts.domain} does not wait for domain ${caller}`);
    }
    ports.setInterdomain(port, remotePorts.domain, remotePort);
    remotePorts.setInterdomain(remotePort, caller, port);
    ports.post(port);
    return port;
  }

  bindVirq(caller: DomId, virq: number, vcpu: number): EvtchnPort {
    if (!Number.isInteger(virq) || virq < 0 || virq >= NR_VIRQS) throw invalid(`There is no VIRQ ${virq}`);
    const kind = virqKind(virq);
    if (kind !== 'vcpu' && vcpu !== 0) throw invalid(`VIRQ ${virq} is ${kind} and not for vCPU ${vcpu}`);
    const { ports } = this.#find(caller, caller);
    requireVcpu(ports, vcpu);
    const handler = this.#options.globalVirqHandler?.(virq) ?? domId(0);
    if (kind === 'global' && handler !== caller) {
      throw new EventChannelError('EBUSY', `VIRQ ${virq} belongs to domain ${handler}`);
    }
    const bound = ports.portOfVirq(virq, vcpu);
    if (bound !== 0) throw new EventChannelError('EEXIST', `VIRQ ${virq} is bound to port ${bound}`);
    const port = ports.lowestFree();
    ports.setVirq(port, virq, vcpu);
    return port;
  }

  bindIpi(caller: DomId, vcpu: number): EvtchnPort {
    const { ports } = this.#find(caller, caller);
    requireVcpu(ports, vcpu);
    const port = ports.lowestFree();
    ports.setIpi(port, vcpu);
    return port;
  }

  bindPirq(caller: DomId, pirq: number, _flags: number): EvtchnPort {
    const { ports } = this.#find(caller, caller);
    const { pirqs } = this.#options;
    if (pirqs === undefined) throw new EventChannelError('EOPNOTSUPP', 'There are no physical interrupts');
    if (!Number.isInteger(pirq) || pirq < 0 || pirq >= pirqs.count) throw invalid(`There is no PIRQ ${pirq}`);
    if (!pirqs.mayBind(caller, pirq))
      throw new EventChannelError('EPERM', `Domain ${caller} may not bind PIRQ ${pirq}`);
    const bound = ports.portOfPirq(pirq);
    if (bound !== 0) throw new EventChannelError('EEXIST', `PIRQ ${pirq} is bound to port ${bound}`);
    const port = ports.lowestFree();
    ports.setPirq(port, pirq);
    return port;
  }

  bindVcpu(caller: DomId, port: EvtchnPort, vcpu: number): void {
    const { ports } = this.#find(caller, caller);
    requireVcpu(ports, vcpu);
    requireValid(ports, port);
    const state = ports.stateOf(port);
    const isFixed = state === EVTCHNSTAT_virq && virqKind(ports.virqOf(port)) === 'vcpu';
    if (state === EVTCHNSTAT_closed || state === EVTCHNSTAT_ipi || isFixed) {
      throw invalid(`Port ${port} cannot be moved to a vCPU`);
    }
    ports.setVcpu(port, vcpu);
  }

  close(caller: DomId, port: EvtchnPort): void {
    const { ports } = this.#find(caller, caller);
    requireValid(ports, port);
    if (ports.stateOf(port) === EVTCHNSTAT_closed)
      throw invalid(`Port ${port} of domain ${caller} is not open`);
    this.#closePort(ports, port);
  }

  status(caller: DomId, domain: DomId, port: EvtchnPort): EventChannelStatus {
    const { ports } = this.#find(caller, domain);
    requireValid(ports, port);
    this.#requireControl(caller, ports.domain, 'look at ports of');
    return ports.statusOf(port);
  }

  unmask(caller: DomId, port: EvtchnPort): void {
    const { ports } = this.#find(caller, caller);
    requireValid(ports, port);
    if (ports.stateOf(port) === EVTCHNSTAT_closed) return;
    const { target } = ports;
    if (ports.abi === '2l' || target.delivery === undefined)
      return unmaskPort(target, port, ports.vcpuOf(port));
    const words = target.region.i32;
    const at = eventWordIndex(words, target.delivery, port);
    if (at >= 0 && (Atomics.and(words, at, ~MASKED) & PENDING) !== 0) ports.post(port);
  }

  reset(caller: DomId, domain: DomId): void {
    const { ports, fifo } = this.#find(caller, domain);
    this.#requireControl(caller, ports.domain, 'reset');
    if (ports.domain !== caller && this.#options.isPaused?.(ports.domain) !== true) {
      throw invalid(`Domain ${ports.domain} is not paused`);
    }
    for (const port of ports.openPorts()) this.#closePort(ports, port);
    if (!fifo.reset()) throw new EventChannelError('EAGAIN', `An event of domain ${domain} is being linked`);
  }

  initControl(caller: DomId, frame: number, offset: number, vcpu: number): number {
    return this.#find(caller, caller).fifo.initControl(frame, offset, vcpu);
  }

  expandArray(caller: DomId, frame: number): void {
    this.#find(caller, caller).fifo.expandArray(frame);
  }

  setPriority(caller: DomId, port: EvtchnPort, priority: number): void {
    const { ports } = this.#find(caller, caller);
    requireValid(ports, port);
    if (ports.abi === '2l')
      throw new EventChannelError('ENOSYS', `Port ${port} has no priority under the 2-level ABI`);
    if (ports.stateOf(port) === EVTCHNSTAT_closed)
      throw new EventChannelError('EACCES', `Port ${port} is not open`);
    if (!Number.isInteger(priority) || priority < 0 || priority > EVTCHN_FIFO_PRIORITY_MIN)
      throw invalid(`There is no priority ${priority}`);
    ports.setPriority(port, priority);
  }

  sendVirq(domain: DomId, virq: number, vcpu: number = 0): boolean {
    const ports = this.#domains.get(domain)?.ports;
    const owner = virqKind(virq) === 'vcpu' ? vcpu : 0;
    const port = ports?.portOfVirq(virq, owner) ?? 0;
    if (ports === undefined || port === 0) return false;
    ports.post(port);
    return true;
  }

  sendPirq(domain: DomId, pirq: number): boolean {
    const ports = this.#domains.get(domain)?.ports;
    const port = ports?.portOfPirq(pirq) ?? 0;
    if (ports === undefined || port === 0) return false;
    ports.post(port);
    return true;
  }

  abiOf(domain: DomId): EventAbi | undefined {
    return this.#domains.get(domain)?.ports.abi;
  }

  openPorts(domain: DomId): readonly EvtchnPort[] {
    return this.#domains.get(domain)?.ports.openPorts() ?? [];
  }

  #closePort(ports: DomainPorts, port: EvtchnPort): void {
    const peer =
      ports.stateOf(port) === EVTCHNSTAT_interdomain
        ? this.#domains.get(ports.remoteDomainOf(port))?.ports
        : undefined;
    const peerPort = ports.remotePortOf(port);
    // The peer stops sending here before the pending bit is taken back.
    peer?.setUnbound(peerPort, ports.domain);
    ports.free(port);
  }

  #find(caller: DomId, domain: DomId): DomainRecord {
    const id = domain === DOMID_SELF ? caller : domain;
    const record = this.#options.domainExists(id) ? this.#domains.get(id) : undefined;
    if (record === undefined) throw new EventChannelError('ESRCH', `There is no domain ${domain}`);
    return record;
  }

  #requireControl(caller: DomId, domain: DomId, action: string): void {
    if (caller === domain || this.#options.isPrivileged(caller)) return;
    throw new EventChannelError('EPERM', `Domain ${caller} may not ${action} domain ${domain}`);
  }
}

function requireVcpu(ports: DomainPorts, vcpu: number): void {
  if (Number.isInteger(vcpu) && vcpu >= 0 && vcpu < ports.vcpuCount) return;
  throw new EventChannelError('ENOENT', `Domain ${ports.domain} has no vCPU ${vcpu}`);
}

function requireValid(ports: DomainPorts, port: number): void {
  if (!ports.isValid(port)) throw invalid(`Domain ${ports.domain} has no port ${port}`);
}

function invalid(message: string): EventChannelError {
  return new EventChannelError('EINVAL', message);
}
