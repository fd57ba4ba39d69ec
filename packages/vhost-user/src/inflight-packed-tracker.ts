/** Writes down in a packed ring's part of the in-flight area what a device takes and finishes, as it does. */
import { VRING_PACKED_DESC, VRING_PACKED_EVENT_F_WRAP_CTR } from '@virtlab/abi/virtio-ring';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DescriptorChain, QueuePosition, TakenChain } from '@virtlab/virtio';
import type { PackedRegion } from './inflight-packed-region.ts';
import type { QueueObserver } from './observed-queue.ts';

export const WRAP_SHIFT: number = VRING_PACKED_EVENT_F_WRAP_CTR;
const SLOT_MASK = (1 << WRAP_SHIFT) - 1;

/** The descriptor ring, as the driver laid it out. */
export interface PackedRing {
  readonly memory: MemoryRegion;
  readonly offset: number;
  readonly size: number;
}

/** One request in flight, as it stands in a region. */
export interface KeptChain {
  readonly id: number;
  /** At least one: the first is what names it there. */
  readonly entries: readonly number[];
}

/** A position some slots further. */
export function advanced(position: number, slots: number, size: number): number {
  const slot = (position & SLOT_MASK) + slots;
  const wrap = position >>> WRAP_SHIFT;
  return slot < size ? slot | (wrap << WRAP_SHIFT) : (slot - size) | ((wrap ^ 1) << WRAP_SHIFT);
}

export class PackedTracker implements QueueObserver {
  readonly #region: PackedRegion;
  readonly #ring: PackedRing;
  readonly #isInOrder: boolean;
  readonly #position: () => QueuePosition;
  /** By buffer id, the first entry of its descriptors. */
  readonly #entryOf: Uint16Array;
  /** The links of the region as this side made them: the region's own are for whoever comes after. */
  readonly #nextOf: Uint16Array;
  readonly #lastOf: Uint16Array;
  readonly #batch: Uint16Array;
  #batchCount = 0;
  #batchSlots = 0;
  #used: number;
  #counter = 0;
  #free = 0;

  constructor(
    region: PackedRegion,
    ring: PackedRing,
    used: number,
    isInOrder: boolean,
    position: () => QueuePosition,
  ) {
    this.#region = region;
    this.#position = position;
    this.#ring = ring;
    this.#isInOrder = isInOrder;
    this.#entryOf = new Uint16Array(ring.size);
    this.#batch = new Uint16Array(region.queueSize);
    this.#nextOf = new Uint16Array(region.queueSize);
    this.#lastOf = new Uint16Array(region.queueSize);
    this.#used = used;
  }

  /**
   * Takes over a region in use, of which the requests that are `given` again by the ring are forgotten. Who dies behind any of
   * the stores leaves a region that says the same, because
   * - of what is given again the newest goes first: what was taken is still all up to some point;
   * - links lead from free entries to free ones only, before and afterwards: whoever walks from a free one, and whichever list it
   *   is then, ends no request that is in flight;
   * - the head that counts while the two positions are the same, or nothing was published, is set while that is so or it does not
   *   count, then both positions, which decide that, then the other head.
   */
  goOn(chains: readonly KeptChain[], given: readonly KeptChain[], counter: number): void {
    const region = this.#region;
    for (const { entries } of given.toReversed()) region.setInFlight(entries[0]!, 0);
    const isTaken = new Uint8Array(region.queueSize);
    for (const { id, entries } of chains) {
      const first = entries[0]!;
      this.#entryOf[id] = first;
      this.#lastOf[first] = entries.at(-1)!;
      for (const [at, entry] of entries.entries()) {
        isTaken[entry] = 1;
        this.#nextOf[entry] = entries[at + 1] ?? 0;
      }
    }
    let free = region.queueSize;
    for (let entry = region.queueSize - 1; entry >= 0; entry -= 1) {
      if (isTaken[entry] === 1) continue;
      this.#nextOf[entry] = free;
      if (region.word(entry, 'next') !== free) region.setWord(entry, 'next', free);
      free = entry;
    }
    this.#free = free;
    this.#counter = counter;
    region.set('old_free_head', free);
    region.settlePositions(this.#used & SLOT_MASK, this.#used >>> WRAP_SHIFT);
    region.set('free_head', free);
  }

  /** Fills an empty region, in which nothing counts yet. */
  beginAnew(takenChains: readonly TakenChain[]): void {
    for (let entry = 0; entry < this.#nextOf.length; entry += 1) this.#link(entry, entry + 1);
    this.#commitUsed();
    this.#commitOld();
    for (const taken of takenChains) this.#keep(taken);
  }

  /** A request that somebody else had taken. */
  #keep({ head, descriptors = [] }: TakenChain): void {
    const first = this.#free;
    for (const { addressLow, addressHigh, size, flags } of descriptors) {
      this.#region.setDescriptor(this.#next(), addressLow, addressHigh, size, head, flags);
    }
    this.#commitChain(first, head, descriptors.length);
  }

  popped({ head, position, slotCount }: DescriptorChain): void {
    if (position < 0 || this.#isInOrder) return;
    const { memory, offset, size } = this.#ring;
    const first = this.#free;
    const fields = VRING_PACKED_DESC.offset;
    for (let count = 0, slot = position; count < slotCount; count += 1) {
      const at = offset + slot * VRING_PACKED_DESC.size;
      const address = (at + fields.addr) / 4;
      const length = memory.u32[(at + fields.len) / 4]!;
      const flags = memory.u16[(at + fields.flags) / 2]!;
      const low = memory.u32[address]!;
      this.#region.setDescriptor(this.#next(), low, memory.u32[address + 1]!, length, head, flags);
      slot = slot + 1 === size ? 0 : slot + 1;
    }
    this.#commitChain(first, head, slotCount);
  }

  undoing({ head, position }: DescriptorChain): void {
    if (position < 0 || this.#isInOrder) return;
    const region = this.#region;
    const entry = this.#entryOf[head]!;
    region.setInFlight(entry, 0);
    this.#giveBack(entry);
    region.set('old_free_head', this.#free);
  }

  pushing({ head, slotCount }: DescriptorChain): void {
    this.#batchSlots += slotCount;
    if (this.#isInOrder) return;
    this.#batch[this.#batchCount] = this.#entryOf[head]!;
    this.#batchCount += 1;
  }

  /** Everything of the batch is written where it is not valid yet; the driver's next descriptor decides. */
  publishing(): void {
    if (this.#isInOrder) return;
    for (let at = 0; at < this.#batchCount; at += 1) this.#giveBack(this.#batch[at]!);
    this.#used = advanced(this.#used, this.#batchSlots, this.#ring.size);
    this.#batchSlots = 0;
    this.#commitUsed();
  }

  published(): void {
    // With IN_ORDER, what was pushed may still wait for others: only the ring knows how far it got.
    if (this.#isInOrder) {
      this.#used = this.#position().used;
      this.#commitUsed();
    }
    for (let at = 0; at < this.#batchCount; at += 1) this.#region.setInFlight(this.#batch[at]!, 0);
    this.#batchCount = 0;
    this.#commitOld();
  }

  /** Takes the first free entry. */
  #next(): number {
    const entry = this.#free;
    this.#free = this.#nextOf[entry]!;
    return entry;
  }

  #giveBack(entry: number): void {
    this.#link(this.#lastOf[entry]!, this.#free);
    this.#free = entry;
    this.#region.set('free_head', entry);
  }

  #link(entry: number, next: number): void {
    this.#nextOf[entry] = next;
    this.#region.setWord(entry, 'next', next);
  }

  /** The entries from `first` on become valid with the last store. */
  #commitChain(first: number, id: number, count: number): void {
    const region = this.#region;
    let last = first;
    for (let left = count - 1; left > 0; left -= 1) last = this.#nextOf[last]!;
    region.setWord(first, 'num', count);
    region.setWord(first, 'last', last);
    this.#lastOf[first] = last;
    region.setCounter(first, this.#counter);
    this.#counter += 1;
    region.setInFlight(first, 1);
    this.#entryOf[id] = first;
    region.set('free_head', this.#free);
    region.set('old_free_head', this.#free);
  }

  #commitUsed(): void {
    this.#region.set('used_idx', this.#used & SLOT_MASK);
    this.#region.setByte('used_wrap_counter', this.#used >>> WRAP_SHIFT);
  }

  #commitOld(): void {
    this.#region.set('old_free_head', this.#free);
    this.#region.set('old_used_idx', this.#used & SLOT_MASK);
    this.#region.setByte('old_used_wrap_counter', this.#used >>> WRAP_SHIFT);
  }
}
