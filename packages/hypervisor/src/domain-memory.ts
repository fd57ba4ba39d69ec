import { EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES, EVTCHN_FIFO_NR_CHANNELS } from '@virtlab/abi/event-channel';
import { GNTTAB_DEFAULT_MAX_FRAMES } from '@virtlab/abi/grant-table';
import { XEN_LEGACY_MAX_VCPUS } from '@virtlab/abi/xen';
import {
  type DeliveryArea,
  type EventTarget,
  PORT_TABLE_ENTRY_SIZE,
  deliveryArea,
  deliveryAreaSize,
} from '@virtlab/event-channel';
import { type GrantControlPlaces, placeGrantControl } from '@virtlab/grant-table';
import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';

/**
 * The pages of a domain. RAM starts at guest-physical address 0. The pages that belong to Xen (shared_info, the port
 * table, the grant table and what an HVM domain shares with its device model) are a second object: a peer that may
 * send us events maps that one, and only a peer that we granted something, or a privileged one, maps the RAM.
 */

export const PAGE_SIZE = 4096;

/** Ports of the FIFO ABI; a domain that uses the 2-level ABI touches the first 4096 only. */
const PORT_COUNT = EVTCHN_FIFO_NR_CHANNELS;
/** Control blocks, which fit one frame, and the event array. */
const EVENT_FRAME_COUNT = 1 + EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES;
/** Room for the hypervisor's default `max_grant_frames`: 32768 references of version 1, 16384 of version 2. */
const GRANT_FRAME_COUNT = GNTTAB_DEFAULT_MAX_FRAMES;

const SHARED_INFO_OFFSET = 0;
const DOORBELL_OFFSET = SHARED_INFO_OFFSET + PAGE_SIZE;
const IOREQ_OFFSET = DOORBELL_OFFSET + PAGE_SIZE;
const POSTED_OFFSET = IOREQ_OFFSET + PAGE_SIZE;
const PORT_TABLE_OFFSET = POSTED_OFFSET + PAGE_SIZE;
const DELIVERY_OFFSET = PORT_TABLE_OFFSET + PORT_COUNT * PORT_TABLE_ENTRY_SIZE;
const EVENT_FRAMES_OFFSET =
  Math.ceil((DELIVERY_OFFSET + deliveryAreaSize(PORT_COUNT, XEN_LEGACY_MAX_VCPUS)) / PAGE_SIZE) * PAGE_SIZE;
const GRANT_TABLE_OFFSET = EVENT_FRAMES_OFFSET + EVENT_FRAME_COUNT * PAGE_SIZE;

const GRANT_CONTROL_OFFSET = GRANT_TABLE_OFFSET + GRANT_FRAME_COUNT * PAGE_SIZE;
const GRANT_CONTROL = placeGrantControl(GRANT_CONTROL_OFFSET, GRANT_FRAME_COUNT);

/** Bytes of the Xen-owned object; the same for every domain. */
export const XEN_PAGES_SIZE: number = GRANT_CONTROL_OFFSET + GRANT_CONTROL.size;

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
  /** One i32: the levels of the INTx lines of a domain's PCI slots, a bit each. Written by the device model. */
  readonly intxLines: number;
  /** One i32: `DEVICE_MODEL_*`, and the domain id of the device model from bit `DEVICE_MODEL_DOMAIN_SHIFT`. */
  readonly deviceModelState: number;
  /** Guest-physical address of each posted doorbell, two u32 by bit number, 0 where none is. Written by the device model. */
  readonly doorbellTable: number;
  readonly portTable: number;
  readonly portCount: number;
  /** What senders of events know of the domain, see `DeliveryArea`. */
  readonly delivery: DeliveryArea;
  /** The pages that the domain may use for control blocks and its event array, counted from the start of the object. */
  readonly eventFrames: { readonly firstFrame: number; readonly frameCount: number };
  readonly grantTable: number;
  readonly grantFrameCount: number;
  /** Version and size of the table, version 2 entries and statuses. */
  readonly grantControl: GrantControlPlaces;
}

export const XEN_PAGES: XenPages = {
  sharedInfo: SHARED_INFO_OFFSET,
  doorbell: DOORBELL_OFFSET,
  ioreq: IOREQ_OFFSET,
  postedVectors: POSTED_OFFSET,
  postedDoorbells: POSTED_OFFSET + 64,
  deviceModelState: POSTED_OFFSET + 128,
  intxLines: POSTED_OFFSET + 192,
  doorbellTable: POSTED_OFFSET + 2048,
  portTable: PORT_TABLE_OFFSET,
  portCount: PORT_COUNT,
  delivery: deliveryArea(DELIVERY_OFFSET, PORT_COUNT, XEN_LEGACY_MAX_VCPUS),
  eventFrames: { firstFrame: EVENT_FRAMES_OFFSET / PAGE_SIZE, frameCount: EVENT_FRAME_COUNT },
  grantTable: GRANT_TABLE_OFFSET,
  grantFrameCount: GRANT_FRAME_COUNT,
  grantControl: GRANT_CONTROL.places,
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

/** Where events of the domain are posted, given its Xen-owned object and how it is woken. */
export function eventTargetOf(xen: MemoryRegion, wake: () => void): EventTarget {
  const { sharedInfo, delivery, eventFrames } = XEN_PAGES;
  return { region: xen, sharedInfoOffset: sharedInfo, delivery, eventFrames, wake };
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
