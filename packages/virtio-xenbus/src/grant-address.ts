import type { GrantRef } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF_HIGH } from '@virtlab/abi/grant-table';
import { XEN_PAGE_OFFSET_MASK, XEN_PAGE_SHIFT } from '@virtlab/abi/xen';

/** Grants as device addresses, in two unsigned words: `bit 63 | ref << 12 | offset in page` (Linux grant-dma-ops.c). */

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const PAGE_SHIFT = XEN_PAGE_SHIFT;
const OFFSET_MASK = XEN_PAGE_OFFSET_MASK;
const GRANT_HIGH = XEN_GRANT_DMA_ADDR_OFF_HIGH | 0;
/** Bits of a reference in the low word; the others stand at the bottom of the high one. */
const REF_LOW_BITS = 32 - XEN_PAGE_SHIFT;
const REF_HIGH_MASK = 2 ** XEN_PAGE_SHIFT - 1;

export function grantAddressLow(ref: number, offsetInPage: number): number {
  return ((ref << PAGE_SHIFT) | offsetInPage) >>> 0;
}

export function grantAddressHigh(ref: number): number {
  return (GRANT_HIGH | (ref >>> REF_LOW_BITS)) >>> 0;
}

/** The reference in an address of which `isGrantAddress` is true. */
export function grantRefOf(addressLow: number, addressHigh: number): GrantRef {
  return ((((addressHigh & REF_HIGH_MASK) << REF_LOW_BITS) | (addressLow >>> PAGE_SHIFT)) >>> 0) as GrantRef;
}

/** Above the reference there is bit 63 and nothing else. */
export function isGrantAddress(addressHigh: number): boolean {
  return (addressHigh & ~REF_HIGH_MASK) === GRANT_HIGH;
}

/** Pages of `size` bytes, at least one and up to 2^32 - 1, from `offset` in a page on. */
export function pageCountOf(offset: number, size: number): number {
  const last = size - 1;
  return (last >>> PAGE_SHIFT) + ((offset + (last & OFFSET_MASK)) >>> PAGE_SHIFT) + 1;
}
