import { type VirtioBackends, type VirtioBackendsOptions, watchVirtioBackends } from '@virtlab/virtio-xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';

export type DriverDomainOptions = Pick<
  VirtioBackendsOptions,
  'createDevice' | 'onHost' | 'onClosed' | 'hostOptions'
>;

/**
 * What a driver domain does: serves every virtio device whose backend directory the toolstack makes in this domain
 * (`attachXenbusDevice` with `backendDomain`). It needs no privilege: a frontend's memory is reached by what it grants.
 */
export async function serveBackends(
  own: Domain,
  store: Xenstore,
  options: DriverDomainOptions,
): Promise<VirtioBackends> {
  return await watchVirtioBackends({
    store,
    domain: own.id,
    events: own.events,
    grantMapper: own.grantMapper,
    aio: own.aio,
    mapDomain: async (peer) => void (await own.mapDomain(peer)),
    ...options,
  });
}
