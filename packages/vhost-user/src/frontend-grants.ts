/** A driver's link whose memory is a domain's, lent by grants instead of descriptors (protocol feature XEN_MMAP). */
import type { DomId } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { DmaMapper } from '@virtlab/guest-memory';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import type { FrontendChannel } from './frontend-channel.ts';
import { streamTo } from './frontend-connect.ts';
import type { DriverMemory } from './frontend-memory.ts';
import {
  type ConnectVhostUserOptions,
  VHOST_USER_FRONTEND_FEATURES,
  resolveFrontendOptions,
} from './frontend-options.ts';
import { FrontendTransport, type VhostUserDriverTransport } from './frontend-transport.ts';
import type { RegionDescription } from './payload-memory.ts';

/** Every reference there can be: 32 bits of pages. */
const GRANTS_SIZE = 1n << BigInt(32 + XEN_PAGE_SHIFT);

export interface ConnectByGrantsOptions extends Omit<ConnectVhostUserOptions, 'memorySize'> {
  /** The domain that the driver runs in, whose grants these are. */
  readonly domid: DomId;
  /**
   * Lends that domain's memory to the domain of the device's process, by addresses `bit 63 | ref << 12 | offset in page`
   * (`createGrantDmaMapper`). The caller's, also afterwards.
   */
  readonly dma: DmaMapper;
}

export interface VhostUserGrantLink extends DriverLink {
  readonly transport: VhostUserDriverTransport;
}

/**
 * As `connectVhostUser`, for a driver in a domU and a device's process in a domain that need not be domain 0: the device reaches
 * what is granted to it, and nothing else. Rejects also with `TransportError` `ENOTSUP` when the device does not know XEN_MMAP.
 */
export async function connectVhostUserByGrants(options: ConnectByGrantsOptions): Promise<VhostUserGrantLink> {
  const { dma, domid, protocolFeatures = VHOST_USER_FRONTEND_FEATURES, ...others } = options;
  const resolved = resolveFrontendOptions({ ...others, protocolFeatures });
  const withGrants = new Set([...resolved.protocolFeatures, 'XEN_MMAP' as const]);
  const transport = await FrontendTransport.open(streamTo(options), new GrantedMemory(domid), {
    ...resolved,
    protocolFeatures: withGrants,
  });
  return { transport, dma, [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose]() };
}

class GrantedMemory implements DriverMemory {
  readonly #region: RegionDescription;
  /** A region comes with a descriptor, of which there is no use here: Xen's is that of its grant device. */
  readonly #fd: number = memfdCreate('virtlab-xen-grants', XEN_PAGE_SIZE);

  constructor(domid: DomId) {
    this.#region = {
      guestAddress: XEN_GRANT_DMA_ADDR_OFF,
      size: GRANTS_SIZE,
      userAddress: XEN_GRANT_DMA_ADDR_OFF,
      mmapOffset: 0n,
      xen: { kind: 'grant', isOnDemand: true, domid },
    };
  }

  async share(channel: FrontendChannel): Promise<void> {
    if (channel.isMemoryShared) return;
    if (!channel.has('XEN_MMAP')) {
      throw new TransportError('ENOTSUP', 'The device does not know XEN_MMAP: it cannot map what is granted');
    }
    if (channel.has('CONFIGURE_MEM_SLOTS')) await channel.tell('ADD_MEM_REG', this.#region, [this.#fd]);
    else await channel.tell('SET_MEM_TABLE', [this.#region], [this.#fd]);
    channel.isMemoryShared = true;
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}
