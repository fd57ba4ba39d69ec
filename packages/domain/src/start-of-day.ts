import { type DomId, type GrantRef, grantRef } from '@virtlab/abi/brands';
import { GNTTAB_RESERVED_XENSTORE } from '@virtlab/abi/grant-table';
import { seedGrant } from '@virtlab/grant-table';
import { type ForeignDomain, PAGE_SIZE, grantTableOf } from '@virtlab/hypervisor';
import { type Xenstore, XenstoreClient, connectRing } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';

/** The reference under which every domain grants its ring to the domain of xenstored (xen/grant_table.h). */
export const XENSTORE_GRANT: GrantRef = grantRef(GNTTAB_RESERVED_XENSTORE);

/** The frame of the xenstore ring: the last of RAM, which no page allocator hands out. */
export function xenstoreFrameOf(ramSize: number): number {
  return ramSize / PAGE_SIZE - 1;
}

/**
 * Builder's side (libxenguest `xc_dom_gnttab_init`): grants the xenstore ring of a domain that does not run yet to the
 * domain of xenstored, under the reserved reference.
 */
export function seedXenstoreGrant(guest: ForeignDomain, xenstored: DomId): void {
  const { xen, ram } = guest.memory;
  if (ram === undefined) throw new TypeError('Building a domain needs its memory');
  seedGrant(grantTableOf({ xen, ram }), XENSTORE_GRANT, xenstored, xenstoreFrameOf(ram.size));
}

/** A domain's own xenstore connection, over its ring. */
export function connectOwnXenstore(domain: Domain): Xenstore {
  const { xenstoreFrame, xenstorePort } = domain.connection.startInfo;
  if (xenstorePort === 0) throw new TypeError(`Domain ${domain.id} was started without a xenstore port`);
  const page = { u8: domain.ram.u8, u32: domain.ram.u32, byteOffset: xenstoreFrame * PAGE_SIZE };
  const ring = connectRing(page, () => void domain.events.send(xenstorePort));
  domain.keepPort(xenstorePort);
  domain.events.onEvent(xenstorePort, () => ring.onEvent());
  return new XenstoreClient(ring.stream);
}
