/** What a device has taken from a packed ring, kept where a crash does not reach it ("Inflight I/O tracking", packed). */
import { VHOST_USER_INFLIGHT_VERSION } from '@virtlab/abi/vhost-user';
import { VRING_PACKED_DESC, VRING_PACKED_EVENT_F_WRAP_CTR } from '@virtlab/abi/virtio-ring';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DescriptorChain, QueuePosition, TakenChain, TakenDescriptor } from '@virtlab/virtio';
import { type InflightPlace, type InflightRecord, isInUse } from './inflight-area.ts';
import { OWNER_FLAGS, PackedRegion } from './inflight-packed-region.ts';
import type { QueueObserver } from './observed-queue.ts';

const WRAP_SHIFT = VRING_PACKED_EVENT_F_WRAP_CTR;
const SLOT_MASK = (1 << WRAP_SHIFT) - 1;

/** The descriptor ring, as the driver laid it out. */
export interface PackedRing {
  readonly memory: MemoryRegion;
  readonly offset: number;
  readonly size: number;
}

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
    const region = this.#region;
    const { size } = this.#ring;
    if (!isInUse(region.get('version'), region.get('desc_num'), region.queueSize)) return undefined;
    const isCommitted = this.#isPublished();
    const used = region.get(isCommitted ? 'used_idx' : 'old_used_idx');
    const wrap = region.getByte(isCommitted ? 'used_wrap_counter' : 'old_used_wrap_counter') & 1;
    if (used >= size) return undefined;
    this.#freeUnused(region.get(isCommitted ? 'free_head' : 'old_free_head'));
    const usedWord = used | (wrap << WRAP_SHIFT);
    if (this.#isInOrder) return { start: { available: usedWord, used: usedWord }, takenChains: [] };
    const takenChains = this.#takenChains();
    const slots = takenChains.reduce((sum, { descriptors }) => sum + descriptors.length, 0);
    return { start: { available: advanced(usedWord, slots, size), used: usedWord }, takenChains };
  }

  begin(
    { used }: QueuePosition,
    takenChains: readonly TakenChain[],
    position: () => QueuePosition,
  ): QueueObserver {
    const region = this.#region;
    region.clear();
    region.set('desc_num', region.queueSize);
    const tracker = new PackedTracker(region, this.#ring, used, this.#isInOrder, position);
    for (const taken of takenChains) tracker.keep(taken);
    region.set('version', VHOST_USER_INFLIGHT_VERSION);
    return tracker;
  }

  end(): void {
    this.#region.set('version', 0);
  }

  /** Whether a publication that was under way had reached the driver: then the descriptor at the old place is used. */
  #isPublished(): boolean {
    const region = this.#region;
    const slot = region.get('old_used_idx');
    const wrap = region.getByte('old_used_wrap_counter') & 1;
    if (region.get('used_idx') === slot && (region.getByte('used_wrap_counter') & 1) === wrap) return false;
    if (slot >= this.#ring.size) return false;
    const at = this.#ring.offset + slot * VRING_PACKED_DESC.size + VRING_PACKED_DESC.offset.flags;
    const owner = Atomics.load(this.#ring.memory.u16, at / 2) & OWNER_FLAGS;
    return owner === (wrap === 1 ? OWNER_FLAGS : 0);
  }

  #freeUnused(freeHead: number): void {
    const region = this.#region;
    let entry = freeHead;
    for (let left = region.queueSize; left > 0 && entry < region.queueSize; left -= 1) {
      region.setInFlight(entry, 0);
      entry = region.word(entry, 'next');
    }
  }

  #takenChains(): { head: number; descriptors: TakenDescriptor[] }[] {
    const region = this.#region;
    const heads: number[] = [];
    for (let entry = 0; entry < region.queueSize; entry += 1) if (region.isInFlight(entry)) heads.push(entry);
    return heads
      .toSorted((a, b) => region.counter(a) - region.counter(b))
      .map((head) => {
        const descriptors: TakenDescriptor[] = [];
        let entry = head;
        let last = head;
        const count = Math.min(region.word(head, 'num'), this.#ring.size);
        for (let left = count; left > 0 && entry < region.queueSize; left -= 1) {
          descriptors.push(region.descriptor(entry));
          last = entry;
          entry = region.word(entry, 'next');
        }
        return { head: region.word(last, 'id'), descriptors };
      });
  }
}

function advanced(position: number, slots: number, size: number): number {
  const slot = (position & SLOT_MASK) + slots;
  const wrap = position >>> WRAP_SHIFT;
  return slot < size ? slot | (wrap << WRAP_SHIFT) : (slot - size) | ((wrap ^ 1) << WRAP_SHIFT);
}

class PackedTracker implements QueueObserver {
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
    for (let entry = 0; entry < region.queueSize; entry += 1) this.#link(entry, entry + 1);
    this.#used = used;
    this.#commitUsed();
    this.#commitOld();
  }

  /** A request that somebody else had taken. */
  keep({ head, descriptors = [] }: TakenChain): void {
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
