/** What a device has taken from a packed ring, kept where a crash does not reach it ("Inflight I/O tracking", packed). */
import { VHOST_USER_INFLIGHT_VERSION } from '@virtlab/abi/vhost-user';
import { VRING_PACKED_DESC } from '@virtlab/abi/virtio-ring';
import type { QueuePosition, TakenChain } from '@virtlab/virtio';
import { COUNTER_MAX, type InflightPlace, type InflightRecord } from './inflight-area.ts';
import { OWNER_FLAGS, PackedRegion } from './inflight-packed-region.ts';
import {
  type KeptChain,
  type PackedRing,
  PackedTracker,
  WRAP_SHIFT,
  advanced,
} from './inflight-packed-tracker.ts';
import type { QueueObserver } from './observed-queue.ts';

/** With `isInOrder` nothing is kept but the used position: requests are done again from there on. */
export class PackedInflightRecord implements InflightRecord {
  readonly #region: PackedRegion;
  readonly #ring: PackedRing;
  readonly #isInOrder: boolean;

  constructor(place: InflightPlace, ring: PackedRing, isInOrder: boolean) {
    this.#region = new PackedRegion(place);
    this.#ring = ring;
    this.#isInOrder = isInOrder;
  }

  recover(): { start: QueuePosition; takenChains: readonly TakenChain[] } | undefined {
    const found = this.#find();
    if (found === undefined) return undefined;
    const { used, chains } = found;
    if (this.#isInOrder) return { start: { available: used, used }, takenChains: [] };
    const slots = chains.reduce((sum, { entries }) => sum + entries.length, 0);
    const takenChains = chains.map(({ id, entries }) => {
      return { head: id, descriptors: entries.map((entry) => this.#region.descriptor(entry)) };
    });
    return { start: { available: advanced(used, slots, this.#ring.size), used }, takenChains };
  }

  begin(
    { used }: QueuePosition,
    takenChains: readonly TakenChain[],
    position: () => QueuePosition,
  ): QueueObserver {
    const tracker = new PackedTracker(this.#region, this.#ring, used, this.#isInOrder, position);
    if (!this.#goOn(tracker, used, takenChains)) this.#beginAnew(tracker, takenChains);
    return tracker;
  }

  end(): void {
    this.#region.set('version', 0);
  }

  /** Leaves a region as it is that says what is to be kept; false when it says anything else. See `PackedTracker.goOn`. */
  #goOn(tracker: PackedTracker, used: number, takenChains: readonly TakenChain[]): boolean {
    const found = this.#find();
    if (found === undefined || found.used !== used) return false;
    const { chains } = found;
    const isKept = takenChains.every(({ head, descriptors }, at) => {
      return chains[at]?.id === head && chains[at].entries.length === descriptors?.length;
    });
    if (!isKept || (takenChains.length === 0 && chains.length > 0)) return false;
    const newest = chains.at(-1);
    const counter = newest === undefined ? 0 : this.#region.counter(newest.entries[0]!) + 1;
    if (counter > COUNTER_MAX) return false;
    const given = chains.splice(takenChains.length);
    tracker.goOn(chains, given, counter);
    return true;
  }

  /** Forgets with the first store what there was, and says all that there is with the last. */
  #beginAnew(tracker: PackedTracker, takenChains: readonly TakenChain[]): void {
    const region = this.#region;
    region.clear();
    region.set('desc_num', region.queueSize);
    tracker.beginAnew(takenChains);
    region.set('version', VHOST_USER_INFLIGHT_VERSION);
  }

  /** What a region that is in use says; undefined also for what nobody can have written of this ring. */
  #find(): { readonly used: number; readonly chains: KeptChain[] } | undefined {
    const region = this.#region;
    if (!region.isInUse) return undefined;
    const isCommitted = this.#isPublished();
    const used = region.get(isCommitted ? 'used_idx' : 'old_used_idx');
    const wrap = region.getByte(isCommitted ? 'used_wrap_counter' : 'old_used_wrap_counter') & 1;
    if (used >= this.#ring.size) return undefined;
    this.#freeUnused(region.get(isCommitted ? 'free_head' : 'old_free_head'));
    const chains = this.#chains();
    return chains === undefined ? undefined : { used: used | (wrap << WRAP_SHIFT), chains };
  }

  /**
   * Whether a publication that was under way had reached the driver: then the descriptor at the old place is used. One place on two
   * laps is a publication of the whole ring, or one that is over, of whose record the last store is missing: then its requests are
   * in flight no more, and what stands at the new place has nothing to say.
   */
  #isPublished(): boolean {
    const region = this.#region;
    const slot = region.get('old_used_idx');
    const wrap = region.getByte('old_used_wrap_counter') & 1;
    const isSameSlot = region.get('used_idx') === slot;
    if (isSameSlot && (region.getByte('used_wrap_counter') & 1) === wrap) return false;
    if (slot >= this.#ring.size) return false;
    if (isSameSlot && this.#slotsInFlight() < this.#ring.size) return true;
    const at = this.#ring.offset + slot * VRING_PACKED_DESC.size + VRING_PACKED_DESC.offset.flags;
    const owner = Atomics.load(this.#ring.memory.u16, at / 2) & OWNER_FLAGS;
    return owner === (wrap === 1 ? OWNER_FLAGS : 0);
  }

  #slotsInFlight(): number {
    const region = this.#region;
    let slots = 0;
    for (let entry = 0; entry < region.queueSize; entry += 1)
      if (region.isInFlight(entry)) slots += region.word(entry, 'num');
    return slots;
  }

  #freeUnused(freeHead: number): void {
    const region = this.#region;
    let entry = freeHead;
    for (let left = region.queueSize; left > 0 && entry < region.queueSize; left -= 1) {
      if (region.isInFlight(entry)) region.setInFlight(entry, 0);
      entry = region.word(entry, 'next');
    }
  }

  /** What is in flight, oldest first. More than the ring holds, or an entry of two requests, is of another ring's past. */
  #chains(): KeptChain[] | undefined {
    const region = this.#region;
    const { size } = this.#ring;
    const heads: number[] = [];
    for (let entry = 0; entry < region.queueSize; entry += 1) if (region.isInFlight(entry)) heads.push(entry);
    if (heads.length > size) return undefined;
    const chains: KeptChain[] = [];
    const isSeen = new Uint8Array(region.queueSize);
    let room = size;
    for (const head of heads.toSorted((a, b) => region.counter(a) - region.counter(b))) {
      const count = region.word(head, 'num');
      room -= count;
      if (count === 0 || room < 0) return undefined;
      const entries = this.#entriesFrom(head, count, isSeen);
      if (entries === undefined) return undefined;
      chains.push({ id: region.word(entries.at(-1)!, 'id'), entries });
    }
    return chains;
  }

  #entriesFrom(head: number, count: number, isSeen: Uint8Array): number[] | undefined {
    const region = this.#region;
    const entries: number[] = [];
    for (let entry = head; entries.length < count; entry = region.word(entry, 'next')) {
      if (entry >= region.queueSize || isSeen[entry] === 1) return undefined;
      isSeen[entry] = 1;
      entries.push(entry);
    }
    return entries;
  }
}
