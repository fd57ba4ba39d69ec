import type { DomId } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type ForeignDomain, HypercallError } from '@virtlab/hypervisor';
import type { XenMemory } from '@virtlab/vhost-user';
import { createGrantDeviceMemory } from '@virtlab/virtio-xenbus';
import type { Domain } from './domain.ts';

export interface XenMemoryOptions {
  /** The domains that the peer of the connection speaks for. Of any other it reaches nothing. */
  readonly domids: readonly DomId[];
  /** Also all of their RAM, which only domain 0 can reach, and never its own. Default false: what they granted, no more. */
  readonly foreign?: boolean;
}

/**
 * What a vhost-user device, whose process is the domain `own`, reaches for the peer of one connection (`serveVhostUser`, option
 * `xen`). The peer names domains as it likes; who serves it says which it may name.
 */
export function createXenMemory(own: Domain, options: XenMemoryOptions): XenMemory {
  const { foreign = false } = options;
  const domids: ReadonlySet<DomId> = new Set(options.domids);
  const reach = async (domid: DomId): Promise<ForeignDomain | undefined> => {
    if (!domids.has(domid)) return undefined;
    try {
      return await own.mapDomain(domid);
    } catch (error) {
      // No such domain, or none that granted anything: the other side's affair.
      if (error instanceof HypercallError) return undefined;
      throw error;
    }
  };
  return {
    grantsOf: async (domid) => {
      if ((await reach(domid)) === undefined) return undefined;
      return createGrantDeviceMemory({ mapper: own.grantMapper, frontendDomain: domid });
    },
    ramOf: async (domid): Promise<MemoryRegion | undefined> => {
      const isShown = foreign && own.id === 0 && domid !== own.id;
      return isShown ? (await reach(domid))?.memory.ram : undefined;
    },
  };
}
