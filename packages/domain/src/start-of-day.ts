import { GNTTAB_RESERVED_XENSTORE, GRANT_ENTRY_V1, GTF_permit_access } from '@virtlab/abi/grant-table';
import { PAGE_SIZE } from '@virtlab/hypervisor';
import { type Xenstore, XenstoreClient } from '@virtlab/xenstore';
import { connectRing } from '@virtlab/xenstore/client';
import type { ForeignDomain } from '@virtlab/hypervisor';
import type { Domain } from './domain.ts';

/** The frame of the xenstore ring: the last of RAM, which no page allocator hands out. */
export function xenstoreFrameOf(ramSize: number): number {
  return ramSize / PAGE_SIZE - 1;
}

/**
 * Builder's side (libxenguest `xc_dom_gnttab_init`): grants the xenstore ring of a domain that does not run yet to the
 * domain of xenstored, under the reserved reference.
 */
export function seedXenstoreGrant(guest: ForeignDomain, grantTableOffset: number, xenstoredDomain: number): void {
  const { xen, ram } = guest.memory;
  if (ram === undefined) throw new TypeError('Building a domain needs its memory');
  const entry = grantTableOffset + GNTTAB_RESERVED_XENSTORE * GRANT_ENTRY_V1.size;
  xen.u32[(entry + GRANT_ENTRY_V1.offset.frame) / 4] = xenstoreFrameOf(ram.size);
  Atomics.store(xen.u32, entry / 4, (GTF_permit_access | (xenstoredDomain << 16)) >>> 0);
}

/** A domain's own xenstore connection, over its ring. */
export function connectOwnXenstore(domain: Domain): Xenstore {
  const { xenstoreFrame, xenstorePort } = domain.connection.startInfo;
  if (xenstorePort === 0) throw new TypeError(`Domain ${domain.id} was started without a xenstore port`);
  const page = { u8: domain.ram.u8, u32: domain.ram.u32, byteOffset: xenstoreFrame * PAGE_SIZE };
  const ring = connectRing(page, () => void domain.events.send(xenstorePort));
  domain.events.onEvent(xenstorePort, () => ring.onEvent());
  return new XenstoreClient(ring.stream);
}

