import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DeliveryArea } from './delivery-area.ts';

/** Which of the two ways of posting events a domain uses: bitmaps (4096 ports) or queues (131072 ports, priorities). */
export type EventAbi = '2l' | 'fifo';

/** Where a domain's events are posted: its shared_info page, and how to wake it when it sleeps. */
export interface EventTarget {
  readonly region: MemoryRegion;
  /** Byte offset of `struct shared_info` in the region; page aligned. */
  readonly sharedInfoOffset: number;
  /** What senders know of the domain and keep between them, in the same region. Without it: 2-level, one vCPU. */
  readonly delivery?: DeliveryArea;
  /**
   * Pages of the region, counted from its start, that the domain may name in `init_control` and `expand_array`.
   * Without it there is no FIFO ABI.
   */
  readonly eventFrames?: { readonly firstFrame: number; readonly frameCount: number };
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

/** `EVTCHNOP_status` in words; `vcpu` is the one that the port's events are delivered to. */
export type EventChannelStatus =
  | { readonly kind: 'closed'; readonly vcpu: number }
  | { readonly kind: 'unbound'; readonly vcpu: number; readonly remote: DomId }
  | {
      readonly kind: 'interdomain';
      readonly vcpu: number;
      readonly remote: DomId;
      readonly remotePort: EvtchnPort;
    }
  | { readonly kind: 'pirq'; readonly vcpu: number; readonly pirq: number }
  | { readonly kind: 'virq'; readonly vcpu: number; readonly virq: number }
  | { readonly kind: 'ipi'; readonly vcpu: number };

/** The operations that change hypervisor state. Reject with `EventChannelError` (`code` an errno name, see the README). */
export interface EventChannelHypercalls {
  /** `domain` other than the caller itself needs privilege. */
  allocUnbound(domain: DomId, remote: DomId): Promise<EvtchnPort>;
  bindInterdomain(remote: DomId, remotePort: EvtchnPort): Promise<EvtchnPort>;
  bindVirq(virq: number, vcpu: number): Promise<EvtchnPort>;
  bindIpi(vcpu: number): Promise<EvtchnPort>;
  bindPirq(pirq: number, flags: number): Promise<EvtchnPort>;
  /** Only events to come go there; see `EventChannels.bindVcpu` for those that are under way. */
  bindVcpu(port: EvtchnPort, vcpu: number): Promise<void>;
  close(port: EvtchnPort): Promise<void>;
  status(domain: DomId, port: EvtchnPort): Promise<EventChannelStatus>;
  unmask(port: EvtchnPort): Promise<void>;
  /** `domain` other than the caller itself needs privilege, and must be paused. */
  reset(domain: DomId): Promise<void>;
  /** Gives a control block, and with the first one switches to the FIFO ABI; answers the link bits. */
  initControl(frame: number, offset: number, vcpu: number): Promise<number>;
  expandArray(frame: number): Promise<void>;
  setPriority(port: EvtchnPort, priority: number): Promise<void>;
}

/**
 * A domain's event channels, seen from inside it. `send`, `mask`, `unmask` and dispatch are the data plane:
 * atomics on shared pages and, only if the peer sleeps, one doorbell.
 */
export interface EventChannels {
  readonly domain: DomId;
  readonly abi: EventAbi;
  /**
   * Switches to the FIFO ABI, for good or until `reset`. Handlers, masks and pending events stay. Rejects with
   * `EventChannelError`; the domain then still uses the 2-level ABI.
   */
  useFifo(): Promise<void>;
  allocUnbound(remote: DomId): Promise<EvtchnPort>;
  bindInterdomain(remote: DomId, remotePort: EvtchnPort): Promise<EvtchnPort>;
  bindVirq(virq: number, vcpu?: number): Promise<EvtchnPort>;
  bindIpi(vcpu: number): Promise<EvtchnPort>;
  /** Moves a port to another vCPU. An event under way is delivered on either. */
  bindVcpu(port: EvtchnPort, vcpu: number): Promise<void>;
  /** FIFO ABI: 0 is served first, 15 last, 7 is what a new port has. What is queued already keeps its place. */
  setPriority(port: EvtchnPort, priority: number): Promise<void>;
  /** Closes all ports of this domain, drops all handlers, and returns to the 2-level ABI. */
  reset(): Promise<void>;
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

  /** True when an upcall is pending on the vCPU, or any without one, and not masked: cheap enough to poll. */
  hasPending(vcpu?: number): boolean;
  /**
   * Runs the handlers of all pending, unmasked ports of the vCPU, or of all without one; answers how many ran. 2-level: round
   * robin over ports. FIFO: by priority, then in the order of arrival. Nothing while the vCPU's upcalls are masked.
   */
  dispatch(vcpu?: number): number;
  /** `evtchn_upcall_mask`: the vCPU takes no upcall (they stay pending) until `unmaskUpcall`. */
  maskUpcall(vcpu?: number): void;
  /** Asks for a dispatch if an upcall came meanwhile. */
  unmaskUpcall(vcpu?: number): void;
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
