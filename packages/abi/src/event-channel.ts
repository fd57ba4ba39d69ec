/**
 * Xen event channels: operations, the 2-level ABI with its shared info page (x86_64), the FIFO ABI.
 * Headers: xen/event_channel.h, xen/xen.h, xen/arch-x86/xen.h.
 */
import { type Layout, layout } from './layout.ts';
import { XEN_LEGACY_MAX_VCPUS, XEN_PAGE_SIZE } from './xen.ts';

/** Connect a new local port to a remote unbound one (event_channel.h). */
export const EVTCHNOP_bind_interdomain = 0;
/** Bind a virtual interrupt (event_channel.h). */
export const EVTCHNOP_bind_virq = 1;
/** Bind a physical interrupt (event_channel.h). */
export const EVTCHNOP_bind_pirq = 2;
/** Close a port; an interdomain peer falls back to unbound (event_channel.h). */
export const EVTCHNOP_close = 3;
/** Send an event to the remote end (event_channel.h). */
export const EVTCHNOP_send = 4;
/** Ask what a port is bound to (event_channel.h). */
export const EVTCHNOP_status = 5;
/** Allocate a port that a named domain may bind to (event_channel.h). */
export const EVTCHNOP_alloc_unbound = 6;
/** Bind an inter-processor interrupt (event_channel.h). */
export const EVTCHNOP_bind_ipi = 7;
/** Choose the vCPU that a port is delivered to (event_channel.h). */
export const EVTCHNOP_bind_vcpu = 8;
/** Unmask, and deliver what was pending (event_channel.h). */
export const EVTCHNOP_unmask = 9;
/** Close all ports, return to the 2-level ABI (event_channel.h). */
export const EVTCHNOP_reset = 10;
/** FIFO: give a control block, switch to the FIFO ABI (event_channel.h). */
export const EVTCHNOP_init_control = 11;
/** FIFO: add a page to the event array (event_channel.h). */
export const EVTCHNOP_expand_array = 12;
/** FIFO: set the priority of a port (event_channel.h). */
export const EVTCHNOP_set_priority = 13;

/** Status: not in use (event_channel.h). */
export const EVTCHNSTAT_closed = 0;
/** Status: waits for the remote domain (event_channel.h). */
export const EVTCHNSTAT_unbound = 1;
/** Status: connected (event_channel.h). */
export const EVTCHNSTAT_interdomain = 2;
/** Status: physical interrupt (event_channel.h). */
export const EVTCHNSTAT_pirq = 3;
/** Status: virtual interrupt (event_channel.h). */
export const EVTCHNSTAT_virq = 4;
/** Status: inter-processor interrupt (event_channel.h). */
export const EVTCHNSTAT_ipi = 5;
/** bind_pirq flag (event_channel.h). */
export const BIND_PIRQ__WILL_SHARE = 1;

const evtchnAllocUnbound = { dom: 'le16', remote_dom: 'le16', port: 'le32' } as const;
/** event_channel.h, struct evtchn_alloc_unbound; `port` is the result. */
export const EVTCHN_ALLOC_UNBOUND: Layout<typeof evtchnAllocUnbound> = layout(8, evtchnAllocUnbound);
const evtchnBindInterdomain = { remote_dom: 'le16', remote_port: 'le32', local_port: 'le32' } as const;
/** event_channel.h, struct evtchn_bind_interdomain; `local_port` is the result. */
export const EVTCHN_BIND_INTERDOMAIN: Layout<typeof evtchnBindInterdomain> = layout(
  12,
  evtchnBindInterdomain,
);
const evtchnBindVirq = { virq: 'le32', vcpu: 'le32', port: 'le32' } as const;
/** event_channel.h, struct evtchn_bind_virq; `port` is the result. */
export const EVTCHN_BIND_VIRQ: Layout<typeof evtchnBindVirq> = layout(12, evtchnBindVirq);
const evtchnBindIpi = { vcpu: 'le32', port: 'le32' } as const;
/** event_channel.h, struct evtchn_bind_ipi; `port` is the result. */
export const EVTCHN_BIND_IPI: Layout<typeof evtchnBindIpi> = layout(8, evtchnBindIpi);
const evtchnStatus = { dom: 'le16', port: 'le32', status: 'le32', vcpu: 'le32', u: ['le32', 2] } as const;
/** event_channel.h, struct evtchn_status; `u` is {dom} if unbound, {dom, port} if interdomain, else {pirq or virq}. */
export const EVTCHN_STATUS: Layout<typeof evtchnStatus> = layout(24, evtchnStatus);
const evtchnInitControl = {
  control_gfn: 'le64',
  offset: 'le32',
  vcpu: 'le32',
  link_bits: 'u8',
  _pad: ['u8', 7],
} as const;
/** event_channel.h, struct evtchn_init_control; `link_bits` is the result. */
export const EVTCHN_INIT_CONTROL: Layout<typeof evtchnInitControl> = layout(24, evtchnInitControl);
const evtchnSetPriority = { port: 'le32', priority: 'le32' } as const;
/** event_channel.h, struct evtchn_set_priority. */
export const EVTCHN_SET_PRIORITY: Layout<typeof evtchnSetPriority> = layout(8, evtchnSetPriority);

/** Per-vCPU: time (xen.h). */
export const VIRQ_TIMER = 0;
/** Per-vCPU: dump debugging information (xen.h). */
export const VIRQ_DEBUG = 1;
/** Global: bytes on the emergency console (xen.h). */
export const VIRQ_CONSOLE = 2;
/** Global: some domain shut down or died (xen.h). */
export const VIRQ_DOM_EXC = 3;
/** Global: trace buffer has records (xen.h). */
export const VIRQ_TBUF = 4;
/** Global: a domain paused for debugging (xen.h). */
export const VIRQ_DEBUGGER = 6;
/** Per-vCPU: profiling sample (xen.h). */
export const VIRQ_XENOPROF = 7;
/** Global: bytes on the console ring (xen.h). */
export const VIRQ_CON_RING = 8;
/** Global: a physical CPU changed state (xen.h). */
export const VIRQ_PCPU_STATE = 9;
/** Global: a memory event (xen.h). */
export const VIRQ_MEM_EVENT = 10;
/** Per-domain: Argo message (xen.h). */
export const VIRQ_ARGO = 11;
/** Global: low on heap (xen.h). */
export const VIRQ_ENOMEM = 12;
/** Per-vCPU: performance counter (xen.h). */
export const VIRQ_XENPMU = 13;
/** First of the eight architecture-specific ones (xen.h). */
export const VIRQ_ARCH_0 = 16;
/** One past the last (xen.h). */
export const NR_VIRQS = 24;

/** 2-level ABI: bits of a word of the bitmaps, `xen_ulong_t` on x86_64 (arch-x86/xen.h). */
export const EVTCHN_2L_WORD_BITS = 64;
/** 2-level ABI: words of either bitmap, and bits used of `evtchn_pending_sel` (xen.h). */
export const EVTCHN_2L_WORD_COUNT = 64;
/** 2-level ABI: ports (event_channel.h). */
export const EVTCHN_2L_NR_CHANNELS = 4096;

const vcpuInfo = {
  evtchn_upcall_pending: 'u8',
  evtchn_upcall_mask: 'u8',
  evtchn_pending_sel: 'le64',
  arch: ['le64', 2],
  time_version: 'le32',
  time_pad0: 'le32',
  time_tsc_timestamp: 'le64',
  time_system_time: 'le64',
  time_tsc_to_system_mul: 'le32',
  time_tsc_shift: 's8',
  time_flags: 'u8',
  time_pad1: ['u8', 2],
} as const;
/** xen.h, struct vcpu_info on x86_64, with struct vcpu_time_info flattened as `time_…`. */
export const VCPU_INFO: Layout<typeof vcpuInfo> = layout(64, vcpuInfo);

const sharedInfo = {
  vcpu_info: ['u8', 2048],
  evtchn_pending: ['le64', 64],
  evtchn_mask: ['le64', 64],
  wc_version: 'le32',
  wc_sec: 'le32',
  wc_nsec: 'le32',
  wc_sec_hi: 'le32',
  arch: ['le64', 6],
} as const;
/** xen.h, struct shared_info on x86_64; `vcpu_info` is 32 × `VCPU_INFO`. It stands at the start of its page. */
export const SHARED_INFO: Layout<typeof sharedInfo> = layout(3136, sharedInfo);

/**
 * Offset in the shared info page of the `vcpu_info` of a vCPU.
 * @throws RangeError if the vCPU has none there
 */
export function vcpuInfoOffset(vcpu: number): number {
  if (!Number.isInteger(vcpu) || vcpu < 0 || vcpu >= XEN_LEGACY_MAX_VCPUS) {
    throw new RangeError(`vCPU ${vcpu} has no vcpu_info in the shared info page`);
  }
  return SHARED_INFO.offset.vcpu_info + vcpu * VCPU_INFO.size;
}

/** FIFO ABI: highest priority (event_channel.h). */
export const EVTCHN_FIFO_PRIORITY_MAX = 0;
/** FIFO ABI: priority of a new port (event_channel.h). */
export const EVTCHN_FIFO_PRIORITY_DEFAULT = 7;
/** FIFO ABI: lowest priority (event_channel.h). */
export const EVTCHN_FIFO_PRIORITY_MIN = 15;
/** FIFO ABI: queues of a vCPU, one per priority (event_channel.h). */
export const EVTCHN_FIFO_MAX_QUEUES = 16;
/** FIFO event word: bit number of "event pending" (event_channel.h). */
export const EVTCHN_FIFO_PENDING = 31;
/** FIFO event word: bit number of "masked" (event_channel.h). */
export const EVTCHN_FIFO_MASKED = 30;
/** FIFO event word: bit number of "is on a queue" (event_channel.h). */
export const EVTCHN_FIFO_LINKED = 29;
/** FIFO event word: bit number of "link is being changed" (event_channel.h). */
export const EVTCHN_FIFO_BUSY = 28;
/** FIFO event word: bits of the link, from bit 0 (event_channel.h). */
export const EVTCHN_FIFO_LINK_BITS = 17;
/** FIFO event word: mask of the link (event_channel.h). */
export const EVTCHN_FIFO_LINK_MASK = 0x1_ffff;
/** FIFO ABI: ports (event_channel.h). */
export const EVTCHN_FIFO_NR_CHANNELS = 0x2_0000;
/** FIFO ABI: bytes of an event word (event_channel.h, event_word_t). */
export const EVTCHN_FIFO_EVENT_WORD_SIZE = 4;
/** FIFO ABI: event words of a page of the array (event_channel.h, page size over event_word_t). */
export const EVTCHN_FIFO_EVENT_WORDS_PER_PAGE: number = XEN_PAGE_SIZE / EVTCHN_FIFO_EVENT_WORD_SIZE;
/** FIFO ABI: most pages of the array (event_channel.h, channels over words per page). */
export const EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES: number =
  EVTCHN_FIFO_NR_CHANNELS / EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;

const evtchnFifoControlBlock = { ready: 'le32', _rsvd: 'le32', head: ['le32', 16] } as const;
/** event_channel.h, struct evtchn_fifo_control_block: one per vCPU. */
export const EVTCHN_FIFO_CONTROL_BLOCK: Layout<typeof evtchnFifoControlBlock> = layout(
  72,
  evtchnFifoControlBlock,
);
