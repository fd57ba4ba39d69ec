import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';

/**
 * The pages of a domain. RAM starts at guest-physical address 0. The pages that belong to Xen (shared_info, the port
 * table, the grant table and what an HVM domain shares with its device model) are a second object: a peer that may
 * send us events maps that one, and only a peer that we granted something, or a privileged one, maps the RAM.
 */

export const PAGE_SIZE = 4096;

/** Ports of the 2-level ABI on x86_64 (event_channel.h): 64 words of 64 bits. */
const PORT_COUNT = 4096;
const PORT_ENTRY_SIZE = 8;
/** Hypervisor default `max_grant_frames`; a v1 entry is 8 bytes, so 32768 references. */
const GRANT_FRAME_COUNT = 64;

const SHARED_INFO_OFFSET = 0;
const DOORBELL_OFFSET = SHARED_INFO_OFFSET + PAGE_SIZE;
const IOREQ_OFFSET = DOORBELL_OFFSET + PAGE_SIZE;
const POSTED_OFFSET = IOREQ_OFFSET + PAGE_SIZE;
const PORT_TABLE_OFFSET = POSTED_OFFSET + PAGE_SIZE;
const GRANT_TABLE_OFFSET = PORT_TABLE_OFFSET + PORT_COUNT * PORT_ENTRY_SIZE;

/** Bytes of the Xen-owned object; the same for every domain. */
export const XEN_PAGES_SIZE: number = GRANT_TABLE_OFFSET + GRANT_FRAME_COUNT * PAGE_SIZE;

/** Smallest and largest RAM: a view cannot be over 4 GiB. */
export const RAM_SIZE_MIN: number = 16 * PAGE_SIZE;
export const RAM_SIZE_MAX: number = 2 ** 32;

/** Places in the Xen-owned object, in bytes. */
export interface XenPages {
  readonly sharedInfo: number;
  /** One i32: `notify_me`, non-zero while the domain sleeps. */
  readonly doorbell: number;
  /** Trapped accesses of an HVM domain: one `struct ioreq` a vCPU. */
  readonly ioreq: number;
  /** Posted vectors (device model to domain) and posted doorbells (domain to device model), see `PostedBits`. */
  readonly postedVectors: number;
  readonly postedDoorbells: number;
  /** One i32: `DEVICE_MODEL_*`, and the domain id of the device model from bit `DEVICE_MODEL_DOMAIN_SHIFT`. */
  readonly deviceModelState: number;
  /** Guest-physical address of each posted doorbell, two u32 by bit number, 0 where none is. Written by the device model. */
  readonly doorbellTable: number;
  readonly portTable: number;
  readonly portCount: number;
  readonly grantTable: number;
  readonly grantFrameCount: number;
}

export const XEN_PAGES: XenPages = {
  sharedInfo: SHARED_INFO_OFFSET,
  doorbell: DOORBELL_OFFSET,
  ioreq: IOREQ_OFFSET,
  postedVectors: POSTED_OFFSET,
  postedDoorbells: POSTED_OFFSET + 64,
  deviceModelState: POSTED_OFFSET + 128,
  doorbellTable: POSTED_OFFSET + 2048,
  portTable: PORT_TABLE_OFFSET,
  portCount: PORT_COUNT,
  grantTable: GRANT_TABLE_OFFSET,
  grantFrameCount: GRANT_FRAME_COUNT,
};

export const DEVICE_MODEL_NONE = 0;
export const DEVICE_MODEL_ALIVE = 1;
export const DEVICE_MODEL_DEAD = 2;
/** The word is `state | domain << DEVICE_MODEL_DOMAIN_SHIFT`. */
export const DEVICE_MODEL_STATE_MASK = 0xff;
export const DEVICE_MODEL_DOMAIN_SHIFT = 8;

/** A domain's pages as one party sees them. The party that made or mapped them owns the views. */
export interface DomainMemory {
  /** The Xen-owned object, `XEN_PAGES_SIZE` bytes. */
  readonly xen: MemoryRegion;
  /** All RAM, or undefined where only events may be sent. */
  readonly ram: MemoryRegion | undefined;
}

/** Pages in this process only. Throws `RangeError` for a RAM size that no domain can have. */
export function createLocalDomainMemory(ramSize: number): DomainMemory & { readonly ram: MemoryRegion } {
  checkRamSize(ramSize);
  return { xen: memoryRegion(new ArrayBuffer(XEN_PAGES_SIZE)), ram: memoryRegion(new ArrayBuffer(ramSize)) };
}

export function checkRamSize(ramSize: number): void {
  if (
    !Number.isInteger(ramSize) ||
    ramSize % PAGE_SIZE !== 0 ||
    ramSize < RAM_SIZE_MIN ||
    ramSize > RAM_SIZE_MAX
  ) {
    throw new RangeError(
      `RAM size ${ramSize} is not a multiple of ${PAGE_SIZE} from ${RAM_SIZE_MIN} to ${RAM_SIZE_MAX}`,
    );
  }
}
