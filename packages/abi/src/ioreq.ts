/** I/O requests of a domain to its device model. Header: xen/hvm/ioreq.h. */
import { type Layout, layout } from './layout.ts';

/** `dir`: write (ioreq.h). */
export const IOREQ_WRITE = 0;
/** `dir`: read (ioreq.h). */
export const IOREQ_READ = 1;

/** State: the slot is free (ioreq.h). */
export const STATE_IOREQ_NONE = 0;
/** State: a request stands in the slot (ioreq.h). */
export const STATE_IOREQ_READY = 1;
/** State: the device model works on it (ioreq.h). */
export const STATE_IOREQ_INPROCESS = 2;
/** State: the response stands in the slot (ioreq.h). */
export const STATE_IORESP_READY = 3;

/** Type: I/O port (ioreq.h). */
export const IOREQ_TYPE_PIO = 0;
/** Type: memory-mapped I/O (ioreq.h). */
export const IOREQ_TYPE_COPY = 1;
/** Type: PCI configuration space; the address is as `IOREQ_PCI_*` says (ioreq.h). */
export const IOREQ_TYPE_PCI_CONFIG = 2;
/** Type: the guest's clock was set (ioreq.h). */
export const IOREQ_TYPE_TIMEOFFSET = 7;
/** Type: drop mappings of guest memory (ioreq.h). */
export const IOREQ_TYPE_INVALIDATE = 8;

const ioreq = {
  addr: 'le64',
  data: 'le64',
  count: 'le32',
  size: 'le32',
  vp_eport: 'le32',
  _pad0: 'le16',
  state_bits: 'u8',
  type: 'u8',
} as const;
/**
 * ioreq.h, struct ioreq: one slot per vCPU, from the start of the page. `state_bits` holds the bit-fields state,
 * data_is_ptr, dir and df: see `IOREQ_*_MASK`.
 */
export const IOREQ: Layout<typeof ioreq> = layout(32, ioreq);

/** `state_bits`: the state (ioreq.h, bits 0 to 3). */
export const IOREQ_STATE_MASK = 0x0f;
/** `state_bits`: `data` is the address of the data (ioreq.h, bit 4). */
export const IOREQ_DATA_IS_PTR_MASK = 0x10;
/** `state_bits`: direction (ioreq.h, bit 5). */
export const IOREQ_DIR_MASK = 0x20;
/** `state_bits`: shift of the direction. */
export const IOREQ_DIR_SHIFT = 5;
/** `state_bits`: addresses of repetitions go down (ioreq.h, bit 6). */
export const IOREQ_DF_MASK = 0x40;

/** Address of IOREQ_TYPE_PCI_CONFIG: shift of the segment, 16 bits (ioreq.h). */
export const IOREQ_PCI_SEGMENT_SHIFT = 48;
/** Address of IOREQ_TYPE_PCI_CONFIG: shift of the bus, 8 bits (ioreq.h). */
export const IOREQ_PCI_BUS_SHIFT = 40;
/** Address of IOREQ_TYPE_PCI_CONFIG: shift of the device, 5 bits (ioreq.h). */
export const IOREQ_PCI_DEVICE_SHIFT = 35;
/** Address of IOREQ_TYPE_PCI_CONFIG: shift of the function, 3 bits (ioreq.h). */
export const IOREQ_PCI_FUNCTION_SHIFT = 32;

/** Offset in the ioreq page of the slot of a vCPU (ioreq.h, struct shared_iopage). */
export function ioreqSlotOffset(vcpu: number): number {
  return vcpu * IOREQ.size;
}
