import type { DomId } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type ForeignDomain, HypercallError } from '@virtlab/hypervisor';
import type { XenMemory } from '@virtlab/vhost-user';
import { createGrantDeviceMemory } from '@virtlab/virtio-xenbus';
import type { Domain } from './domain.ts';

/**
 * What the process of a vhost-user device, being a domain, reaches of others (`serveVhostUser`, option `xen`): what they granted it,
 * and all of their RAM if it is domain 0.
 */
export function createXenMemory(own: Domain): XenMemory {
  const reach = async (domid: number): Promise<ForeignDomain | undefined> => {
    try {
      return await own.mapDomain(domid as DomId);
    } catch (error) {
      // No such domain, or none that granted anything: the other side's affair.
      if (error instanceof HypercallError) return undefined;
      throw error;
    }
  };
  return {
    grantsOf: async (domid) => {
      if ((await reach(domid)) === undefined) return undefined;
      return createGrantDeviceMemory({ mapper: own.grantMapper, frontendDomain: domid as DomId });
    },
    ramOf: async (domid): Promise<MemoryRegion | undefined> =>
      own.id === 0 ? (await reach(domid))?.memory.ram : undefined,
  };
}
