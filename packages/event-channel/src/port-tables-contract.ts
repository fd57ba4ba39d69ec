import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import type { EventAbi, EventChannelStatus, EventTarget, PortTableView } from './contract.ts';

export interface PortTablesOptions {
  domainExists(domain: DomId): boolean;
  /** Asked once, when the domain is added. */
  targetOf(domain: DomId): EventTarget | undefined;
  isPrivileged(domain: DomId): boolean;
  /** Highest port number of a domain; by default what the ABI has for privileged domains and 1023 for others. */
  portCountMax?(domain: DomId): number;
  /** The domain that may bind a global VIRQ; by default domain 0. */
  globalVirqHandler?(virq: number): DomId;
  /** Whether another domain may `reset` it; by default never. */
  isPaused?(domain: DomId): boolean;
  /** vCPUs of a domain, asked once; by default 1. More than 1 needs a target with a delivery area. */
  vcpuCount?(domain: DomId): number;
  /** Physical interrupts that the machine has and who may bind them; by default it has none and no operation for them. */
  readonly pirqs?: { readonly count: number; mayBind(domain: DomId, pirq: number): boolean };
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
   * posted in other domains is completed, unless its code may still run for a moment (`isStopped` false): then
   * `completeSends` has to follow. Nothing for an unknown domain.
   */
  removeDomain(domain: DomId, isStopped?: boolean): readonly ClosedPort[];
  /** Nothing of a removed domain runs any more: completes what it may have left half posted. */
  completeSends(domain: DomId): void;
  /** ESRCH, EPERM, ENOSPC. */
  allocUnbound(caller: DomId, domain: DomId, remote: DomId): EvtchnPort;
  /** ESRCH, ENOSPC, EINVAL. On success the new port is pending: events sent before it existed were dropped. */
  bindInterdomain(caller: DomId, remote: DomId, remotePort: EvtchnPort): EvtchnPort;
  /** EINVAL, ENOENT, EBUSY, EEXIST, ENOSPC. */
  bindVirq(caller: DomId, virq: number, vcpu: number): EvtchnPort;
  /** ENOENT, ENOSPC. */
  bindIpi(caller: DomId, vcpu: number): EvtchnPort;
  /** EOPNOTSUPP without physical interrupts, EINVAL, EPERM, EEXIST, ENOSPC. `BIND_PIRQ__WILL_SHARE` changes nothing here. */
  bindPirq(caller: DomId, pirq: number, flags: number): EvtchnPort;
  /** ENOENT, EINVAL. */
  bindVcpu(caller: DomId, port: EvtchnPort, vcpu: number): void;
  /** EINVAL. */
  close(caller: DomId, port: EvtchnPort): void;
  /** ESRCH, EINVAL, EPERM. */
  status(caller: DomId, domain: DomId, port: EvtchnPort): EventChannelStatus;
  /** EINVAL. Nothing for a port that is closed. */
  unmask(caller: DomId, port: EvtchnPort): void;
  /** Closes all ports of a domain and returns it to the 2-level ABI. ESRCH, EPERM, EINVAL; EAGAIN: an event is being linked. */
  reset(caller: DomId, domain: DomId): void;
  /** Gives a vCPU its control block; the first switches to the FIFO ABI. Answers the link bits. EOPNOTSUPP, ENOENT, EINVAL. */
  initControl(caller: DomId, frame: number, offset: number, vcpu: number): number;
  /** Adds a page to the event array. EOPNOTSUPP without the FIFO ABI, ENOSPC, EINVAL. */
  expandArray(caller: DomId, frame: number): void;
  /** EINVAL for a bad port, ENOSYS under the 2-level ABI, EACCES for a closed port, EINVAL for a bad priority. */
  setPriority(caller: DomId, port: EvtchnPort, priority: number): void;
  /** Raises a VIRQ, of a vCPU if it is a per-vCPU one; false if the domain is unknown or has not bound it. */
  sendVirq(domain: DomId, virq: number, vcpu?: number): boolean;
  /** Raises a physical interrupt; false if the domain is unknown or has not bound it. */
  sendPirq(domain: DomId, pirq: number): boolean;
  /** Undefined for an unknown domain. */
  abiOf(domain: DomId): EventAbi | undefined;
  /** Empty for an unknown domain. */
  openPorts(domain: DomId): readonly EvtchnPort[];
}
