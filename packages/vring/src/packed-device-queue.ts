import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { loadWordAcquire, type MappedArea, storeWordRelease } from '@virtlab/guest-memory';
import { ChainPool } from './chain-pool.ts';
import { CompletionOrder } from './completion-order.ts';
import {
  type DescriptorChain,
  type DeviceQueue,
  type DeviceQueueOptions,
  POSITION_TAKEN,
  type QueueHandOver,
  type QueuePosition,
  type RingFeatures,
  type RingSnapshot,
  type RingViolation,
  type TakenChain,
} from './contract.ts';
import type { RingChain } from './device-chain.ts';
import { PackedChainReader } from './packed-chain-reader.ts';
import { PackedEvents } from './packed-events.ts';
import { type PackedSnapshotState, snapshotPackedReleased, snapshotPackedRing } from './packed-snapshot.ts';
import {
  availableBits,
  PACKED_FLAGS_SHIFT,
  PACKED_ID_FLAGS,
  PACKED_LEN,
  PACKED_OWNER_BITS,
  PACKED_WORDS,
  PackedViews,
  packedPosition,
  POSITION_SLOT_MASK,
  POSITION_WRAP_SHIFT,
  slotsBetween,
  usedBits,
} from './packed-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_WRITE = VRING_DESC_F_WRITE << PACKED_FLAGS_SHIFT;
const ID_FLAGS = PACKED_ID_FLAGS;
const LEN = PACKED_LEN;
const OWNER = PACKED_OWNER_BITS;
const WORDS = PACKED_WORDS;
const TAKEN = POSITION_TAKEN;

/** No available descriptor has it: of AVAIL and USED exactly one bit is set. */
const NO_WORD = 0;
const NO_SLOT = -1;
/** Slot 0 of the first lap (§2.8.1). */
const START = packedPosition(0, 1);

/** The device half of a packed virtqueue (VIRTIO 1.4 §2.8). See README, "Memory ordering", for why no wake-up is lost. */
export class PackedDeviceQueue implements DeviceQueue {
  readonly size: number;
  readonly #ring: PackedViews;
  readonly #areas: readonly MappedArea[];
  readonly #memory: DeviceQueueOptions['memory'];
  readonly #features: RingFeatures;
  readonly #events: PackedEvents;
  readonly #reader: PackedChainReader;
  readonly #chains: ChainPool;
  /** With IN_ORDER only. */
  readonly #order: CompletionOrder | undefined;

  /** Slot that `pop` takes next, and what says that its descriptor is available. */
  #nextSlot: number;
  #nextBits: number;
  /** Last word of that descriptor if it was loaded and found available, else `NO_WORD`. */
  #nextWord = NO_WORD;
  /** Slots after it that were popped and taken back. */
  #undoneCount = 0;
  /** Requests that a predecessor had popped, and that `pop` gives first; undefined once there are none. */
  #takenChains: TakenChain[] | undefined = undefined;
  /** Slots popped, whose used descriptors are not written. */
  #slotsInFlight: number;

  /** Slot where the next used descriptor is staged, and what says that it is used. */
  #usedSlot: number;
  #usedWordBits: number;
  /**
   * The first descriptor staged since `publish`: its last word is held back, for it shows the others too. The driver
   * looks at no later one before it.
   */
  #firstSlot = NO_SLOT;
  #firstWord = NO_WORD;
  #stagedCount = 0;
  #publishedUsed: number;
  /** Slots published since `needsCall` was last asked. */
  #unaskedCount = 0;
  /** With IN_ORDER: slot of the used descriptor of the batch staged last. */
  #batchSlot = 0;
  #batchBits = 0;

  #stopped = false;
  #released = false;
  #violation: RingViolation | undefined = undefined;

  /** `areas` are ring, driver and device event suppression; `start` is what `options.start` says, checked. */
  constructor(options: DeviceQueueOptions, segmentCountMax: number, areas: readonly MappedArea[]) {
    const { addresses, memory, features, start, takenChains = [] } = options;
    const ring = new PackedViews(addresses.size, areas[0]!, areas[1]!, areas[2]!);
    const { size } = ring;
    this.size = size;
    this.#ring = ring;
    this.#areas = areas;
    this.#memory = memory;
    this.#features = features;
    this.#reader = new PackedChainReader(ring, memory, features.indirect, segmentCountMax);
    this.#chains = new ChainPool(memory, size, segmentCountMax);
    this.#order = features.inOrder === true ? new CompletionOrder(size) : undefined;
    const available = start?.available ?? START;
    const used = start?.used ?? START;
    this.#nextSlot = available & POSITION_SLOT_MASK;
    this.#nextBits = availableBits(available >>> POSITION_WRAP_SHIFT);
    this.#usedSlot = used & POSITION_SLOT_MASK;
    this.#usedWordBits = usedBits(used >>> POSITION_WRAP_SHIFT);
    this.#publishedUsed = used;
    if (takenChains.length > 0) this.#takenChains = [...takenChains];
    this.#slotsInFlight = slotsBetween(used, available, size);
    this.#events = new PackedEvents(
      size,
      features.eventIdx,
      [ring.device32, ring.deviceEvent],
      [ring.driver32, ring.driverEvent],
      start === undefined,
    );
    if (start === undefined) return;
    this.#unstage();
    // Whoever had the ring before may have wanted no kicks.
    this.#events.enable(available);
  }

  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  get inFlightCount(): number {
    return this.#chains.inFlightCount;
  }

  hasAvailable(): boolean {
    return this.#takenChains !== undefined || this.#nextWord !== NO_WORD || this.#look();
  }

  pop(): RingChain | undefined {
    if (this.#takenChains !== undefined) return this.#popTaken(this.#takenChains);
    if (this.#nextWord === NO_WORD && !this.#look()) return undefined;
    const { size } = this.#ring;
    const chains = this.#chains;
    const reader = this.#reader;
    const slot = this.#nextSlot;
    const chain = chains.peek();
    if (!reader.read(chain, slot, this.#nextWord, size - this.#slotsInFlight))
      return this.#break(reader.violation);
    this.#nextWord = NO_WORD;
    const id = reader.id;
    if (id >= size || chains.isTaken(id)) return this.#rejectId(chain, id, slot);
    chains.take(chain, id);
    chain.position = slot;
    this.#order?.add(slot, chain);
    const slotCount = chain.slotCount;
    this.#slotsInFlight += slotCount;
    if (this.#undoneCount !== 0) this.#undoneCount = Math.max(0, this.#undoneCount - slotCount);
    const next = slot + slotCount;
    if (next < size) this.#nextSlot = next;
    else {
      this.#nextSlot = next - size;
      this.#nextBits ^= OWNER;
    }
    return chain;
  }

  undoPop(chain: DescriptorChain): void {
    if (this.#released) return;
    const own = this.#chains.own(chain);
    const { position, slotCount } = own;
    if (position === TAKEN) {
      this.#undoTaken(own);
      return;
    }
    const { size } = this.#ring;
    const end = position + slotCount;
    if ((end < size ? end : end - size) !== this.#nextSlot) {
      throw new RangeError(`Chain ${own.head} is not the one popped last`);
    }
    this.#chains.undo(own);
    this.#order?.undo(position);
    if (end >= size) this.#nextBits ^= OWNER;
    this.#nextSlot = position;
    this.#nextWord = NO_WORD;
    this.#slotsInFlight -= slotCount;
    if (!this.#stopped) this.#undoneCount += slotCount;
  }

  push(chain: DescriptorChain, writtenSize: number): void {
    if (this.#released) return;
    const own = this.#chains.own(chain);
    const writableSize = own.writableSize;
    if (!(writtenSize >= 0 && writtenSize <= writableSize)) refuseWritten(writtenSize, writableSize);
    this.#chains.hold(own);
    if (this.#order !== undefined && !this.#stopped) {
      own.writtenSize = writtenSize;
      own.isFull = writtenSize === writableSize;
      this.#stageInOrder(this.#order);
      return;
    }
    this.#chains.free(own);
    if (this.#stopped) return;
    this.#writeUsed(this.#usedSlot, this.#usedWordBits, own.head, writtenSize);
    this.#advanceUsed(own.slotCount);
  }

  publish(): void {
    if (this.#firstSlot === NO_SLOT || this.#stopped) return;
    const { desc32, descBase } = this.#ring;
    this.#unaskedCount += this.#stagedCount;
    this.#stagedCount = 0;
    this.#publishedUsed = this.#usedPosition();
    if (this.#order !== undefined) this.#order.mayExtend = false;
    storeWordRelease(desc32, descBase + this.#firstSlot * WORDS + ID_FLAGS, this.#firstWord);
    this.#firstSlot = NO_SLOT;
  }

  needsCall(): boolean {
    this.publish();
    const count = this.#unaskedCount;
    if (count === 0 || this.#stopped) return false;
    this.#unaskedCount = 0;
    return this.#events.isWanted(this.#usedSlot, this.#usedWordBits === 0 ? 0 : 1, count);
  }

  disableKicks(): void {
    if (!this.#stopped) this.#events.disable(this.#unseenPosition());
  }

  /**
   * True also for descriptors that `pop` has not reached yet; chains taken back by `undoPop` do not count, so that a
   * device can wait for more than it was given.
   */
  enableKicks(): boolean {
    if (this.#stopped) return false;
    const unseen = this.#unseenPosition();
    this.#events.enable(unseen);
    const { desc32, descBase } = this.#ring;
    const slot = unseen & POSITION_SLOT_MASK;
    const word = loadWordAcquire(desc32, descBase + slot * WORDS + ID_FLAGS);
    if (((word ^ availableBits(unseen >>> POSITION_WRAP_SHIFT)) & OWNER) !== 0) return false;
    if (this.#undoneCount === 0) this.#nextWord = word;
    return true;
  }

  position(): QueuePosition {
    return { available: this.#nextPosition(), used: this.#publishedUsed };
  }

  handOver(): QueueHandOver {
    const used = this.#publishedUsed;
    if (this.#order !== undefined) return { start: { available: used, used }, takenChains: [] };
    const chains = this.#chains.unfinished();
    let slot = this.#nextSlot;
    let wrap = this.#nextBits < 0 ? 0 : 1;
    for (const { position, slotCount } of this.#chains.takeNewest(chains)) {
      slot = position;
      if (position + slotCount >= this.size) wrap ^= 1;
    }
    const takenChains = [...chains.map(takenAgain), ...(this.#takenChains ?? [])];
    return { start: { available: packedPosition(slot, wrap), used }, takenChains };
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#stop();
    this.#chains.release();
    for (const area of this.#areas) this.#memory.unmapArea(area);
  }

  snapshot(): RingSnapshot {
    const state: PackedSnapshotState = {
      side: 'device',
      size: this.size,
      features: this.#features,
      shadowAvail: this.#nextPosition(),
      shadowUsed: this.#publishedUsed,
      inFlight: this.#chains.inFlight(),
      violation: this.#violation,
    };
    return this.#released ? snapshotPackedReleased(state) : snapshotPackedRing(this.#ring, state);
  }

  /** Loads the next descriptor's last word; before it answers "nothing" it has asked for a kick and loaded it again. */
  #look(): boolean {
    if (this.#stopped) return false;
    const { desc32, descBase } = this.#ring;
    const at = descBase + this.#nextSlot * WORDS + ID_FLAGS;
    const bits = this.#nextBits;
    let word = loadWordAcquire(desc32, at);
    if (((word ^ bits) & OWNER) !== 0) {
      if (this.#undoneCount !== 0 || !this.#events.ask(this.#nextPosition())) return false;
      word = loadWordAcquire(desc32, at);
      if (((word ^ bits) & OWNER) !== 0) return false;
    }
    this.#nextWord = word;
    return true;
  }

  /** As `SplitDeviceQueue` does it; the used descriptor of a batch stands in the first slot of its first chain (§2.8.8). */
  #stageInOrder(order: CompletionOrder): void {
    for (;;) {
      const chain = order.take(this.#usedSlot);
      if (chain === undefined) return;
      if (!order.mayExtend) {
        this.#batchSlot = this.#usedSlot;
        this.#batchBits = this.#usedWordBits;
      }
      this.#writeUsed(this.#batchSlot, this.#batchBits, chain.head, chain.writtenSize);
      order.mayExtend = chain.isFull;
      this.#advanceUsed(chain.slotCount);
      this.#chains.free(chain);
    }
  }

  /**
   * Who was killed before `publish` may have left used descriptors behind the first, which would count as soon as the driver gets
   * there. All that is in flight is made what it was: available.
   */
  #unstage(): void {
    const { desc32, descBase, size } = this.#ring;
    let slot = this.#usedSlot;
    let bits = this.#usedWordBits;
    for (let left = this.#slotsInFlight; left > 1; left -= 1) {
      slot += 1;
      if (slot === size) {
        slot = 0;
        bits ^= OWNER;
      }
      const at = descBase + slot * WORDS + ID_FLAGS;
      const word = desc32[at]!;
      if ((word & OWNER) === bits) desc32[at] = (word & ~OWNER) | availableBits(bits === 0 ? 0 : 1);
    }
  }

  /** WRITE says whether anything was written (§2.8.3). */
  #writeUsed(slot: number, bits: number, id: number, writtenSize: number): void {
    const { desc32, descBase } = this.#ring;
    const at = descBase + slot * WORDS;
    const word = id | bits | (writtenSize === 0 ? 0 : F_WRITE);
    desc32[at + LEN] = writtenSize;
    if (this.#firstSlot === NO_SLOT) this.#firstSlot = slot;
    if (this.#firstSlot === slot) this.#firstWord = word;
    else desc32[at + ID_FLAGS] = word;
  }

  #advanceUsed(slotCount: number): void {
    const { size } = this.#ring;
    this.#stagedCount += slotCount;
    this.#slotsInFlight -= slotCount;
    const next = this.#usedSlot + slotCount;
    if (next < size) this.#usedSlot = next;
    else {
      this.#usedSlot = next - size;
      this.#usedWordBits ^= OWNER;
    }
  }

  #nextPosition(): number {
    return packedPosition(this.#nextSlot, this.#nextBits < 0 ? 0 : 1);
  }

  /** The slot after all that was ever popped. */
  #unseenPosition(): number {
    const position = this.#nextPosition();
    const slot = (position & POSITION_SLOT_MASK) + this.#undoneCount;
    const wrap = position >>> POSITION_WRAP_SHIFT;
    return slot < this.size ? packedPosition(slot, wrap) : packedPosition(slot - this.size, wrap ^ 1);
  }

  #usedPosition(): number {
    return packedPosition(this.#usedSlot, this.#usedWordBits === 0 ? 0 : 1);
  }

  /** The next of a predecessor's requests; its slots are in flight already. */
  #popTaken(takenChains: TakenChain[]): RingChain | undefined {
    const taken = takenChains[0]!;
    const chains = this.#chains;
    if (taken.head >= this.size || chains.isTaken(taken.head)) {
      return this.#break(violation('2.8.21.1', `Buffer ${hex(taken.head)} was taken before, and cannot be`));
    }
    const chain = chains.peek();
    if (!this.#reader.readTaken(chain, taken)) return this.#break(this.#reader.violation);
    chains.take(chain, taken.head);
    chain.position = TAKEN;
    takenChains.shift();
    if (takenChains.length === 0) this.#takenChains = undefined;
    return chain;
  }

  #undoTaken(chain: RingChain): void {
    this.#chains.undo(chain);
    if (!this.#stopped) this.#takenChains = [takenAgain(chain), ...(this.#takenChains ?? [])];
  }

  #rejectId(chain: RingChain, id: number, slot: number): undefined {
    chain.unmap();
    const where = `Chain at ${hex(slot)} has buffer id ${hex(id)}`;
    return id >= this.size
      ? this.#break(violation('2.8.21.1', `${where} in a queue of ${hex(this.size)}`))
      : this.#break(violation('2.8.21.1', `${where}, which is in flight already`));
  }

  #break(reason: RingViolation | undefined): undefined {
    this.#violation ??= reason;
    this.#stop();
  }

  /** From here on nothing is popped and nothing is written; `pop` needs no check of its own for it. */
  #stop(): void {
    this.#stopped = true;
    this.#nextWord = NO_WORD;
    this.#takenChains = undefined;
    this.#undoneCount = 0;
  }
}

/** As a successor is told of it. */
function takenAgain(chain: RingChain): TakenChain {
  return { head: chain.head, descriptors: chain.keptDescriptors() };
}

function refuseWritten(writtenSize: number, writableSize: number): never {
  throw new RangeError(`Written size ${writtenSize} is outside 0..${writableSize}`);
}
