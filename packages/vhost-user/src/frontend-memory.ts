import { IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { type SharedMapping, closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import type { FrontendChannel } from './frontend-channel.ts';
import type { RegionDescription } from './payload-memory.ts';

/**
 * Where the driver's memory is in device addresses. The same number is its user address, so that ring addresses are what
 * the driver was given. Not 0, which some devices take for "none".
 */
const BASE_ADDRESS = 0x1_0000_0000n;

/** What rings and buffers of a link lie in, and how a device's process gets to it. */
export interface DriverMemory extends Disposable {
  /** Once for each connection, before the first ring. */
  share(channel: FrontendChannel): Promise<void>;
}

/** Memory of the link's own: one sealed memfd, of which the device can map no less than we do. Owned by one link. */
export class FrontendMemory implements DriverMemory {
  readonly dma: IdentityDmaMapper;
  readonly #mapping: SharedMapping;
  readonly #fd: number;

  /** Throws `LinuxError`. */
  constructor(size: number) {
    this.#fd = memfdCreate('virtlab-vhost-user', size);
    try {
      this.#mapping = mapShared(this.#fd, size);
    } catch (error) {
      closeFd(this.#fd);
      throw error;
    }
    this.dma = new IdentityDmaMapper(memoryRegion(this.#mapping.buffer), { baseAddress: BASE_ADDRESS });
  }

  /** "SET_MEM_TABLE", or "ADD_MEM_REG" where regions come one by one; once for each connection. */
  async share(channel: FrontendChannel): Promise<void> {
    if (channel.isMemoryShared) return;
    const region: RegionDescription = {
      guestAddress: BASE_ADDRESS,
      size: BigInt(this.#mapping.size),
      userAddress: BASE_ADDRESS,
      mmapOffset: 0n,
    };
    if (channel.has('CONFIGURE_MEM_SLOTS')) await channel.tell('ADD_MEM_REG', region, [this.#fd]);
    else await channel.tell('SET_MEM_TABLE', [region], [this.#fd]);
    channel.isMemoryShared = true;
  }

  /** Views that somebody still holds read zeros from now on. */
  [Symbol.dispose](): void {
    this.#mapping.revoke();
    closeFd(this.#fd);
  }
}
