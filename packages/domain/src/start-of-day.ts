import { type DomId, type GrantRef, domId, grantRef } from '@virtlab/abi/brands';
import { GNTTAB_RESERVED_XENSTORE } from '@virtlab/abi/grant-table';
import { seedGrant } from '@virtlab/grant-table';
import { type ForeignDomain, PAGE_SIZE, grantTableOf } from '@virtlab/hypervisor';
import { type Xenstore, XenstoreClient, connectRing } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';

/** The reference under which every domain grants its ring to the domain of xenstored (xen/grant_table.h). */
export const XENSTORE_GRANT: GrantRef = grantRef(GNTTAB_RESERVED_XENSTORE);

/** xenstored runs in domain 0. */
const XENSTORED_DOMAIN: DomId = domId(0);

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

/**
 * A domain's own xenstore connection, over its ring. It is lost, and every request fails with `EIO`, when the domain of xenstored
 * dies.
 */
export function connectOwnXenstore(domain: Domain): Xenstore {
  const { connection, events, ram } = domain;
  const { xenstoreFrame, xenstorePort } = connection.startInfo;
  if (xenstorePort === 0) throw new TypeError(`Domain ${domain.id} was started without a xenstore port`);
  const page = { u8: ram.u8, u32: ram.u32, byteOffset: xenstoreFrame * PAGE_SIZE };
  const ring = connectRing(page, () => void events.send(xenstorePort));
  domain.keepPort(xenstorePort);
  events.onEvent(xenstorePort, () => ring.onEvent());
  const store = new XenstoreClient(ring.stream);
  const goneWatch = connection.onDomainGone((gone) => {
    if (gone === XENSTORED_DOMAIN) ring.stream.close();
  });
  void store.closed.then(() => goneWatch[Symbol.dispose]());
  // Only the end of a domain that is mapped is reported, and it may have come already.
  connection.mapDomain(XENSTORED_DOMAIN, 'events').catch(() => ring.stream.close());
  return store;
}
