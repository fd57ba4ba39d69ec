import {
  EVTCHN_FIFO_LINK_BITS,
  EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES,
  EVTCHN_FIFO_MAX_QUEUES,
} from '@virtlab/abi/event-channel';

/**
 * What the senders of a domain's events know of it and keep between them. In Xen this is private memory of the hypervisor,
 * which does all sending; here domains send, so it lies in the memory that a sender maps, beside shared_info. The hypervisor
 * writes all of it but the lock and what the lock protects. A receiver that scribbles into its own area loses events, and costs
 * each sender no more than a bounded look at it: senders check every index that they take from it.
 *
 * The members are places in the region: indices of 32-bit words, except `route` and `lastQueue`, which are indices of
 * 16-bit words. A queue is `vcpu << 4 | priority`.
 */
export interface DeliveryArea {
  /** Ports, port 0 included; a multiple of 32. */
  readonly portCount: number;
  /** vCPUs that it has room for. */
  readonly vcpuMax: number;
  /** 0: 2-level, 1: FIFO. */
  readonly abi: number;
  /** Ports that `openPorts` has to look at. */
  readonly validPorts: number;
  /** vCPUs of the domain. */
  readonly vcpuCount: number;
  /** 0, or who links events now (domain id + 1), and `LOCK_MORE` once others left him work. */
  readonly lock: number;
  /** What the holder of the lock is linking: `queue << 17 | port`, and `JOURNAL_HEAD`; 0 between two. */
  readonly journal: number;
  /** By vCPU: where its control block is, as an index of 32-bit words; 0 without one. */
  readonly control: number;
  /** By page of the event array: where it is, as an index of 32-bit words; 0 without one. */
  readonly pages: number;
  /** By queue: the port that was linked last; 0 if none or if it has gone to another queue. */
  readonly tails: number;
  /** A bit for each word of `deferred` that may have bits. */
  readonly summary: number;
  /** A bit for each port that somebody else must link: the lock was taken, or its page of the array is missing. */
  readonly deferred: number;
  /** By port: the queue that events go to from now on. */
  readonly route: number;
  /** By port: the queue that it was linked on last. */
  readonly lastQueue: number;
}

export const ABI_2L = 0;
export const ABI_FIFO = 1;

export const LOCK_OWNER_MASK = 0xffff;
export const LOCK_MORE: number = 1 << 16;
export const JOURNAL_HEAD: number = 1 << 31;

export const QUEUES_PER_VCPU_SHIFT: number = Math.log2(EVTCHN_FIFO_MAX_QUEUES);
export const JOURNAL_QUEUE_SHIFT: number = EVTCHN_FIFO_LINK_BITS;

/** Words that change seldom; the lock has a cache line of its own. */
const HEADER_WORDS = 16;
const LOCK_WORDS = 16;
const CONTROL_WORDS = 32;
const PORTS_PER_WORD = 32;

interface Sections {
  readonly control: number;
  readonly pages: number;
  readonly tails: number;
  readonly summary: number;
  readonly deferred: number;
  readonly shorts: number;
  readonly size: number;
}

/** In words from the start of the area. */
function sections(portCount: number, vcpuMax: number): Sections {
  const control = HEADER_WORDS + LOCK_WORDS;
  const pages = control + CONTROL_WORDS;
  const tails = pages + EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES;
  const summary = tails + vcpuMax * EVTCHN_FIFO_MAX_QUEUES;
  const deferred = summary + Math.ceil(portCount / PORTS_PER_WORD / PORTS_PER_WORD);
  const shorts = deferred + portCount / PORTS_PER_WORD;
  return { control, pages, tails, summary, deferred, shorts, size: Math.ceil(shorts + portCount) };
}

/** Bytes of an area, a multiple of 8. Throws `RangeError` as `deliveryArea` does. */
export function deliveryAreaSize(portCount: number, vcpuMax: number): number {
  if (portCount % PORTS_PER_WORD !== 0 || portCount <= 0 || !(vcpuMax >= 1 && vcpuMax <= CONTROL_WORDS))
    throw new RangeError(`An area cannot have ${portCount} ports and ${vcpuMax} vCPUs`);
  return Math.ceil((sections(portCount, vcpuMax).size * 4) / 8) * 8;
}

/**
 * The area at a byte offset of a region, a multiple of 8; it must be zero when the domain begins. Throws `RangeError` for
 * ports that are not a multiple of 32, or over 32 vCPUs.
 */
export function deliveryArea(offset: number, portCount: number, vcpuMax: number): DeliveryArea {
  deliveryAreaSize(portCount, vcpuMax);
  if (offset % 8 !== 0) throw new RangeError(`An area cannot begin at ${offset}`);
  const base = offset / 4;
  const { control, pages, tails, summary, deferred, shorts } = sections(portCount, vcpuMax);
  return {
    portCount,
    vcpuMax,
    abi: base,
    validPorts: base + 1,
    vcpuCount: base + 2,
    lock: base + HEADER_WORDS,
    journal: base + HEADER_WORDS + 1,
    control: base + control,
    pages: base + pages,
    tails: base + tails,
    summary: base + summary,
    deferred: base + deferred,
    route: (base + shorts) * 2,
    lastQueue: (base + shorts) * 2 + portCount,
  };
}
