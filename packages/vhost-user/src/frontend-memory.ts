import { IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { type SharedMapping, closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import { type LentMemory, TransportError } from '@virtlab/virtio';
import type { FrontendChannel } from './frontend-channel.ts';
import { LentRegion } from './frontend-lent.ts';
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

/** Whoever tells the device of a change, when it can be told and in turn with everything else. */
export interface MemoryTeller {
  /** Of a device that was never shown memory nothing is asked: it will be, and then of all of it. */
  changeMemory(change: (channel: FrontendChannel, pause: Pause) => Promise<void>): Promise<void>;
}
/** Runs `work` while no ring is. */
export type Pause = (work: () => Promise<void>) => Promise<void>;

/**
 * Memory of the link's own, one sealed memfd, of which the device can map no less than we do; and what the caller lends beside
 * it. Owned by one link.
 */
export class FrontendMemory implements DriverMemory {
  readonly dma: IdentityDmaMapper;
  readonly #mapping: SharedMapping;
  readonly #fd: number;
  readonly #lent = new Set<LentRegion>();

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
    if (this.#lent.size >= channel.memorySlotCount) throw new TransportError('ENOTSUP', tooMany(channel));
    if (channel.has('CONFIGURE_MEM_SLOTS')) {
      await channel.tell('ADD_MEM_REG', this.#own, [this.#fd]);
      for (const region of this.#lent) await addRegion(channel, region);
    } else await this.#setTable(channel);
    channel.isMemoryShared = true;
  }

  /**
   * `DriverLink.mapMemory`. With CONFIGURE_MEM_SLOTS regions come and go under a live device. Without, the whole table is told
   * anew while the rings stand still: devices replace it under running ones too (QEMU's frontends rely on that when memory is
   * plugged), but what they have begun then goes to memory that is no longer mapped. Rejects with `EIO` when the device refuses,
   * and the rings go on; with `ENODEV` and others when it is gone, `ENOSPC` without a free slot, `EINVAL` for such memory.
   */
  async lend(
    teller: MemoryTeller,
    slotCount: number,
    fd: number,
    offset: number,
    size: number,
  ): Promise<LentMemory> {
    if (this.#lent.size + 1 >= slotCount)
      throw new TransportError('ENOSPC', `The device's ${slotCount} memory slots are taken`);
    const region = new LentRegion(this.#freePlace(), fd, offset, size);
    this.#lent.add(region);
    try {
      await teller.changeMemory(async (channel, pause) => {
        if (region.toldOn === channel) return;
        if (channel.has('CONFIGURE_MEM_SLOTS')) await addRegion(channel, region);
        else await pause(() => this.#setTable(channel));
      });
    } catch (error) {
      this.#forget(region);
      throw error;
    }
    return region.handle(() => void this.#withdraw(teller, region));
  }

  /** Views that somebody still holds read zeros from now on. */
  [Symbol.dispose](): void {
    for (const region of this.#lent) this.#forget(region);
    this.#mapping.revoke();
    closeFd(this.#fd);
  }

  get #own(): RegionDescription {
    return {
      guestAddress: BASE_ADDRESS,
      size: BigInt(this.#mapping.size),
      userAddress: BASE_ADDRESS,
      mmapOffset: 0n,
    };
  }

  async #setTable(channel: FrontendChannel): Promise<void> {
    const lent = [...this.#lent];
    const regions = [this.#own, ...lent.map(({ description }) => description)];
    await channel.tell('SET_MEM_TABLE', regions, [this.#fd, ...lent.map(({ fd }) => fd)]);
    for (const region of lent) region.toldOn = channel;
  }

  /** Our own views end at once; the device's end when it was told, and until then its place is taken. */
  async #withdraw(teller: MemoryTeller, region: LentRegion): Promise<void> {
    if (!this.#lent.has(region)) return;
    region.revoke();
    try {
      await teller.changeMemory(async (channel, pause) => {
        if (!this.#lent.has(region) || region.toldOn !== channel) return;
        if (channel.has('CONFIGURE_MEM_SLOTS')) {
          await channel.tell('REM_MEM_REG', region.description);
          region.toldOn = undefined;
        } else {
          this.#forget(region);
          await pause(() => this.#setTable(channel));
        }
      });
    } catch {
      // Nobody waits. A device that is gone has forgotten it; one that refused keeps what it has.
    } finally {
      this.#forget(region);
    }
  }

  #forget(region: LentRegion): void {
    if (this.#lent.delete(region)) region[Symbol.dispose]();
  }

  #freePlace(): number {
    const taken = new Set([...this.#lent].map(({ place }) => place));
    let place = 0;
    while (taken.has(place)) place += 1;
    return place;
  }
}

async function addRegion(channel: FrontendChannel, region: LentRegion): Promise<void> {
  await channel.tell('ADD_MEM_REG', region.description, [region.fd]);
  region.toldOn = channel;
}

function tooMany({ memorySlotCount }: FrontendChannel): string {
  return `The device that took over has ${memorySlotCount} memory slots only`;
}
