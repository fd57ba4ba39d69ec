import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import type { EventAbi, EventChannelStatus } from '@virtlab/event-channel';
import type { GrantLimits, GrantVersion } from '@virtlab/grant-table';
import type { GrantFrames, GrantTableSize } from './grant-tables.ts';

/** PV: grants and event channels only. HVM: also a PCI bus that a device model emulates. */
export type DomainType = 'pv' | 'hvm';

export interface DomainConfig {
  readonly name: string;
  readonly type: DomainType;
  /** Bytes; a multiple of 4096. */
  readonly ramSize: number;
  /** 1 by default, 32 at most. */
  readonly vcpuCount?: number | undefined;
  /** Highest event channel port (xl.cfg, `max_event_channels`); by default 1023, or all of the ABI for domain 0. */
  readonly portMax?: number | undefined;
  /** Of its grant table and maptrack; what is left out is as large as this machine allows. */
  readonly grantLimits?: Partial<GrantLimits> | undefined;
}

/** What a domain runs: a module whose `boot` is called with the domain, as a kernel is entered with its start info. */
export interface DomainProgram {
  /** URL of the module. */
  readonly module: string;
  /** Plain data. */
  readonly args: unknown;
  /** The event channel ABI that it starts with; by default 2-level. */
  readonly events?: EventAbi | undefined;
  /** Version of its grant table, set before it is used (Linux: `gnttab.version=`); by default 1. */
  readonly grantVersion?: GrantVersion | undefined;
}

/** Given to a domain when it starts (xen.h `start_info`): where its xenstore ring is and the port to ring it by. */
export interface StartInfo {
  readonly xenstoreFrame: number;
  readonly xenstorePort: EvtchnPort | 0;
}

/** SHUTDOWN_* (sched.h), in words. */
export type ShutdownReason = 'poweroff' | 'reboot' | 'suspend' | 'crash';

export interface DomainInfo {
  readonly domain: DomId;
  readonly name: string;
  readonly type: DomainType;
  readonly ramSize: number;
  readonly state: 'paused' | 'running' | 'shutdown' | 'dying';
  readonly shutdownReason: ShutdownReason | undefined;
  /** Process of a running domain, for an operator's eyes. */
  readonly pid: number | undefined;
}

/** What of a peer is wanted: `events` to send to it, `memory` to reach what it granted (or all of it, privileged). */
export type MapAccess = 'events' | 'memory';

/**
 * Hypercalls that change hypervisor state. On a Unix socket they are `[id, op, ...arguments]` in MessagePack behind a
 * u32 length, answered by `[id, null, result]` or `[id, code, message]`. Nothing of the data plane passes here.
 */
export interface Hypercalls {
  alloc_unbound(domain: DomId, remote: DomId): EvtchnPort;
  bind_interdomain(remote: DomId, remotePort: EvtchnPort): EvtchnPort;
  bind_virq(virq: number, vcpu: number): EvtchnPort;
  bind_ipi(vcpu: number): EvtchnPort;
  bind_pirq(pirq: number, flags: number): EvtchnPort;
  bind_vcpu(port: EvtchnPort, vcpu: number): null;
  evtchn_close(port: EvtchnPort): null;
  evtchn_status(domain: DomId, port: EvtchnPort): EventChannelStatus;
  evtchn_unmask(port: EvtchnPort): null;
  /** Another domain than the caller: privileged, and it must be paused. */
  evtchn_reset(domain: DomId): null;
  /** Frames are `XEN_PAGES.eventFrames`. Answers the link bits. */
  evtchn_init_control(frame: number, offset: number, vcpu: number): number;
  evtchn_expand_array(frame: number): null;
  evtchn_set_priority(port: EvtchnPort, priority: number): null;
  /** Privileged. The new domain is paused. */
  domain_create(config: DomainConfig): DomId;
  /** Privileged. Starts a paused domain. */
  domain_unpause(domain: DomId, program: DomainProgram, startInfo: StartInfo): null;
  /** Privileged, not on oneself. Everything the domain held is released before it returns. */
  domain_destroy(domain: DomId): null;
  /** Announces how the caller is about to end. */
  domain_shutdown(reason: ShutdownReason): null;
  /** Privileged: all domains. Otherwise: the caller. */
  domain_info(): readonly DomainInfo[];
  /** Answered with the peer's pages; `memory` needs privilege or a grant of the peer to the caller, else EPERM. */
  map_domain(domain: DomId, access: MapAccess): { readonly ramSize: number };
  /** Ends all access to the peer's pages. */
  unmap_domain(domain: DomId): null;
  /** `GNTTABOP_setup_table`: makes the table at least so large. Of others: privileged, else `GNTST_permission_denied`. */
  gnttab_setup_table(domain: DomId, frameCount: number): GrantFrames;
  /** `GNTTABOP_query_size`. */
  gnttab_query_size(domain: DomId): GrantTableSize;
  /** `GNTTABOP_set_version` of the own table: EINVAL, ENOSYS, EBUSY, EAGAIN, ERANGE. Only reserved entries are kept. */
  gnttab_set_version(version: number): GrantVersion;
  /** `GNTTABOP_get_version`: ESRCH, EPERM. */
  gnttab_get_version(domain: DomId): GrantVersion;
  /** `GNTTABOP_get_status_frames` of a version 2 table. */
  gnttab_get_status_frames(domain: DomId, frameCount: number): GrantFrames;
  /** Privileged: the caller becomes the device model of an HVM domain. EEXIST when it has one. */
  ioreq_server_create(domain: DomId): null;
  /** A line or a record for whoever runs the machine. Plain data. */
  console_write(record: unknown): null;
}

export type HypercallOp = keyof Hypercalls;
export type HypercallResult<Op extends HypercallOp> = ReturnType<Hypercalls[Op]>;
