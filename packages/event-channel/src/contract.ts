import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';

/** Where a domain's events are posted: its shared_info page, and how to wake it when it sleeps. */
export interface EventTarget {
  readonly region: MemoryRegion;
  /** Byte offset of `struct shared_info` in the region; page aligned. */
  readonly sharedInfoOffset: number;
  /** Called after the pending word was set and an upcall is due: the doorbell, suppressed while the domain is awake. */
  wake(): void;
}

/**
 * A domain's port table as its own process reads it: one pair of u32 words a port, written by the hypervisor only.
 * Word 0 is where `send` goes: `remote domid << 17 | remote port`, or 0 when nothing can be sent now
 * (a port is 17 bits and never 0, a domain id is 15 bits). Word 1 is `EVTCHNSTAT_*`, and for the rest see status.
 */
export interface PortTableView {
  readonly region: MemoryRegion;
  readonly offset: number;
  readonly portCount: number;
}

/** `EVTCHNOP_status` in words. */
export type EventChannelStatus =
  | { readonly kind: 'closed' }
  | { readonly kind: 'unbound'; readonly remote: DomId }
  | { readonly kind: 'interdomain'; readonly remote: DomId; readonly remotePort: EvtchnPort }
  | { readonly kind: 'virq'; readonly virq: number }
  | { readonly kind: 'ipi'; readonly vcpu: number };

/** The operations that change hypervisor state. Reject with `EventChannelError` (`code` an errno name of xen.md §4). */
export interface EventChannelHypercalls {
  /** `domain` other than the caller itself needs privilege. */
  allocUnbound(domain: DomId, remote: DomId): Promise<EvtchnPort>;
  bindInterdomain(remote: DomId, remotePort: EvtchnPort): Promise<EvtchnPort>;
  bindVirq(virq: number, vcpu: number): Promise<EvtchnPort>;
  bindIpi(vcpu: number): Promise<EvtchnPort>;
  close(port: EvtchnPort): Promise<void>;
  status(domain: DomId, port: EvtchnPort): Promise<EventChannelStatus>;
}

/**
 * A domain's event channels, seen from inside it. `send`, `mask`, `unmask` and dispatch are the data plane:
 * atomics on shared pages and, only if the peer sleeps, one doorbell.
 */
export interface EventChannels {
  readonly domain: DomId;
  allocUnbound(remote: DomId): Promise<EvtchnPort>;
  bindInterdomain(remote: DomId, remotePort: EvtchnPort): Promise<EvtchnPort>;
  bindVirq(virq: number): Promise<EvtchnPort>;
  /** Also drops the handler. The peer's port becomes unbound, reserved for this domain. */
  close(port: EvtchnPort): Promise<void>;
  status(port: EvtchnPort): Promise<EventChannelStatus>;

  /** False for a port that is not open here; sending on an unbound port is silently dropped (true), as in Xen. */
  send(port: EvtchnPort): boolean;
  mask(port: EvtchnPort): void;
  /** If the port is pending, its handler runs in the next dispatch. */
  unmask(port: EvtchnPort): void;
  /** The handler runs in `dispatch`, once for any number of sends since it last ran. A new port starts masked until it has one. */
  onEvent(port: EvtchnPort, handler: (() => void) | undefined): void;

  /** True when an upcall is pending: cheap enough to poll. */
  hasPending(): boolean;
  /** Runs the handlers of all pending, unmasked ports; answers how many ran. */
  dispatch(): number;
  /** Open ports, for leak checks. */
  openPorts(): readonly EvtchnPort[];
}

/** An event channel operation that failed. */
export class EventChannelError extends Error {
  readonly code:
    | 'EINVAL'
    | 'ENOSPC'
    | 'ESRCH'
    | 'EPERM'
    | 'ENOENT'
    | 'EBUSY'
    | 'EEXIST'
    | 'ENOMEM'
    | 'ENOSYS'
    | 'EACCES'
    | 'EAGAIN'
    | 'EOPNOTSUPP'
    | 'EIO';
  constructor(code: EventChannelError['code'], message: string) {
    super(`${code}: ${message}`);
    this.name = 'EventChannelError';
    this.code = code;
  }
}
