import { VRING_DESC, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT } from '@virtlab/abi/virtio-ring';
import { type DmaMapper, loadWordAcquire, storeWordRelease } from '@virtlab/guest-memory';
import type { RingBufferList } from './buffer-list.ts';
import { NO_BUFFER_ADDRESS } from './buffer-records.ts';
import {
  ADD_BROKEN,
  ADD_FULL,
  ADD_NO_ADDRESS,
  type BufferList,
  type DriverQueue,
  type QueueAddresses,
  type QueuePosition,
  type RingFeatures,
  type RingSnapshot,
  type RingViolation,
} from './contract.ts';
import type { DriverAreas } from './driver-areas.ts';
import { DriverRequests, NO_TOKEN } from './driver-requests.ts';
import { PackedEvents } from './packed-events.ts';
import { type PackedSnapshotState, snapshotPackedReleased, snapshotPackedRing } from './packed-snapshot.ts';
import {
  availableBits,
  PACKED_FLAGS_SHIFT,
  PACKED_HIGH,
  PACKED_ID_FLAGS,
  PACKED_ID_MASK,
  PACKED_LEN,
  PACKED_LOW,
  PACKED_OWNER_BITS,
  PACKED_WORDS,
  PackedViews,
  packedPosition,
  usedBits,
} from './packed-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_INDIRECT = VRING_DESC_F_INDIRECT << PACKED_FLAGS_SHIFT;
const F_NEXT = VRING_DESC_F_NEXT << PACKED_FLAGS_SHIFT;
const FLAGS_SHIFT = PACKED_FLAGS_SHIFT;
const BROKEN = ADD_BROKEN;
const FULL = ADD_FULL;
const NO_ADDRESS = ADD_NO_ADDRESS;
const NO_BUFFER = NO_BUFFER_ADDRESS;
const NONE = NO_TOKEN;
const HIGH = PACKED_HIGH;
const LOW = PACKED_LOW;
const LEN = PACKED_LEN;
const ID_FLAGS = PACKED_ID_FLAGS;
const ID_MASK = PACKED_ID_MASK;
const OWNER = PACKED_OWNER_BITS;
const WORDS = PACKED_WORDS;
const ENTRY_SIZE = VRING_DESC.size;

const NO_SLOT = -1;
/** No batch of used buffers is being handed out. */
const NO_BATCH = -1;

/** The driver half of a packed virtqueue (VIRTIO 1.4 §2.8). */
export class PackedDriverQueue implements DriverQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly #ring: PackedViews;
  readonly #areas: DriverAreas;
  readonly #features: RingFeatures;
  readonly #events: PackedEvents;
  readonly #requests: DriverRequests;
  readonly #inOrder: boolean;

  /** Slot of the next descriptor, and what makes it available. */
  #nextSlot = 0;
  #nextBits: number = availableBits(1);
  /** The first descriptor staged since `publish`: its last word is held back, for it shows the others too. */
  #firstSlot = NO_SLOT;
  #firstWord = 0;
  #publishedPosition: number = packedPosition(0, 1);
  #stagedCount = 0;
  /** Slots published since `needsKick` was last asked. */
  #unaskedCount = 0;

  /** Slot of the next used descriptor, and what says that it is used. */
  #usedSlot = 0;
  #usedWordBits: number = usedBits(1);
  /** Last word of that descriptor, once it was loaded and found used. */
  #usedWord = 0;
  #isUsedSeen = false;
  /** With IN_ORDER: the last request of the batch being handed out, and what was written to it. */
  #batchLast = NO_BATCH;
  #batchWritten = 0;

  #stopped = false;
  #released = false;
  #violation: RingViolation | undefined = undefined;

  constructor(areas: DriverAreas, dma: DmaMapper, features: RingFeatures) {
    const { size } = areas.addresses;
    const ring = new PackedViews(size, areas.descriptors, areas.driver, areas.device);
    this.size = size;
    this.addresses = areas.addresses;
    this.#ring = ring;
    this.#areas = areas;
    this.#features = features;
    this.#inOrder = features.inOrder === true;
    this.#requests = new DriverRequests(dma, areas, this.#inOrder);
    this.#events = new PackedEvents(
      size,
      features.eventIdx,
      [ring.driver32, ring.driverEvent],
      [ring.device32, ring.deviceEvent],
      true,
    );
  }

  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  get kickData(): number {
    return this.#publishedPosition;
  }

  get freeCount(): number {
    return this.#requests.freeCount;
  }

  get inFlightCount(): number {
    return this.#requests.inFlightCount;
  }

  get usedSize(): number {
    return this.#requests.usedSize;
  }

  get clampedCount(): number {
    return this.#requests.clampedCount;
  }

  add(buffers: BufferList, token: number): number {
    if (this.#stopped) return BROKEN;
    const requests = this.#requests;
    const list = requests.check(buffers, token);
    const count = list.count;
    const inTable = requests.usesTable(count);
    if ((inTable ? 1 : count) > requests.freeCount) return FULL;
    return inTable ? this.#placeIndirect(list, token) : this.#placeDirect(list, token);
  }

  addTable(
    addressLow: number,
    addressHigh: number,
    count: number,
    writableSize: number,
    token: number,
  ): number {
    if (this.#stopped) return BROKEN;
    const requests = this.#requests;
    if (requests.freeCount === 0) return FULL;
    const id = requests.freeId;
    requests.beginTable(count, writableSize, token);
    this.#stageTable(id, addressLow, addressHigh, count);
    return 0;
  }

  publish(): void {
    const slot = this.#firstSlot;
    if (slot === NO_SLOT || this.#stopped) return;
    const { desc32, descBase } = this.#ring;
    this.#firstSlot = NO_SLOT;
    this.#unaskedCount += this.#stagedCount;
    this.#stagedCount = 0;
    this.#publishedPosition = packedPosition(this.#nextSlot, this.#nextBits < 0 ? 0 : 1);
    this.#requests.publishedSequence = this.#requests.stagedSequence;
    storeWordRelease(desc32, descBase + slot * WORDS + ID_FLAGS, this.#firstWord);
  }

  needsKick(): boolean {
    this.publish();
    const count = this.#unaskedCount;
    if (count === 0 || this.#stopped) return false;
    this.#unaskedCount = 0;
    return this.#events.isWanted(this.#nextSlot, this.#nextBits < 0 ? 0 : 1, count);
  }

  hasUsed(): boolean {
    return this.#isUsedSeen || this.#batchLast !== NO_BATCH || this.#look();
  }

  popUsed(): number {
    if (this.#inOrder) return this.#popInOrder();
    if (!this.#isUsedSeen && !this.#look()) return NONE;
    const { desc32, descBase } = this.#ring;
    const requests = this.#requests;
    const id = this.#usedWord & ID_MASK;
    const written = desc32[descBase + this.#usedSlot * WORDS + LEN]! >>> 0;
    const token = id < this.size ? requests.token(id) : NONE;
    if (token < 0) return this.#rejectId(id);
    const slotCount = requests.finish(id, written);
    if (slotCount === 0) return this.#rejectHeld(id);
    this.#isUsedSeen = false;
    this.#skip(slotCount);
    return token;
  }

  disableCalls(): void {
    if (!this.#stopped) this.#events.disable(this.#usedPosition());
  }

  /** True also for used descriptors that `popUsed` has not reached yet. */
  enableCalls(): boolean {
    if (this.#stopped) return false;
    this.#events.enable(this.#usedPosition());
    return this.#isUsedSeen || this.#batchLast !== NO_BATCH || this.#look();
  }

  /** Used descriptors lie over those of requests in flight, so these cannot be offered again where they are. */
  handOver(again: boolean): QueuePosition | undefined {
    if (this.#stopped || (again && this.#requests.publishedCount > 0)) return undefined;
    return { available: this.#publishedPosition, used: this.#usedPosition() };
  }

  markBroken(reason: RingViolation): void {
    this.#violation ??= reason;
    this.#stop();
  }

  release(onAbandoned?: (token: number) => void): boolean {
    if (this.#released) return !this.#requests.isMemoryHeld;
    this.#released = true;
    this.#stop();
    this.#requests.abandon(onAbandoned);
    if (!this.#areas.free()) this.#requests.isMemoryHeld = true;
    return !this.#requests.isMemoryHeld;
  }

  snapshot(): RingSnapshot {
    const state: PackedSnapshotState = {
      side: 'driver',
      size: this.size,
      features: this.#features,
      shadowAvail: packedPosition(this.#nextSlot, this.#nextBits < 0 ? 0 : 1),
      shadowUsed: this.#usedPosition(),
      inFlight: this.#requests.inFlight(),
      violation: this.#violation,
    };
    return this.#released ? snapshotPackedReleased(state) : snapshotPackedRing(this.#ring, state);
  }

  /** One descriptor after the other; the id stands in all of them, for there are devices that read it from the first. */
  #placeDirect(list: RingBufferList, token: number): number {
    const { records, freeId: id } = this.#requests;
    const { desc32, descBase, size } = this.#ring;
    const count = list.count;
    const head = this.#nextSlot;
    let bits = this.#nextBits;
    let slot = head;
    let record = id;
    let headWord = 0;
    for (let i = 0; ;) {
      const at = descBase + slot * WORDS;
      const flags = records.place(list, i, record, at);
      if (flags === NO_BUFFER) return this.#takeBack(id, i);
      const more = i + 1 < count;
      const word = id | bits | (flags << FLAGS_SHIFT) | (more ? F_NEXT : 0);
      if (i === 0) headWord = word;
      else desc32[at + ID_FLAGS] = word;
      if (++slot === size) {
        slot = 0;
        bits ^= OWNER;
      }
      if (!more) break;
      i++;
      record = records.next(record);
    }
    this.#requests.begin(list, token, id, record);
    this.#stage(head, headWord, count);
    this.#nextSlot = slot;
    this.#nextBits = bits;
    return 0;
  }

  /** The table that belongs to the id holds the buffers (§2.8.7). */
  #placeIndirect(list: RingBufferList, token: number): number {
    const requests = this.#requests;
    const id = requests.freeId;
    const { tableBase, tableCapacity, tableLow, tableHigh } = this.#areas;
    const first = requests.tableOf(id);
    const table = tableBase + id * tableCapacity * WORDS;
    const placed = requests.records.placeTable(list, first, table, true);
    if (placed !== list.count) return this.#takeBackTable(first, placed);
    requests.begin(list, token, first, id);
    this.#stageTable(id, tableLow[id]!, tableHigh[id]!, placed);
    return 0;
  }

  #stageTable(id: number, low: number, high: number, count: number): void {
    const { desc32, descBase, size } = this.#ring;
    const slot = this.#nextSlot;
    const at = descBase + slot * WORDS;
    desc32[at + LOW] = low;
    desc32[at + HIGH] = high;
    desc32[at + LEN] = count * ENTRY_SIZE;
    this.#stage(slot, id | this.#nextBits | F_INDIRECT, 1);
    if (slot + 1 < size) this.#nextSlot = slot + 1;
    else {
      this.#nextSlot = 0;
      this.#nextBits ^= OWNER;
    }
  }

  #stage(head: number, word: number, slotCount: number): void {
    this.#stagedCount += slotCount;
    if (this.#firstSlot === NO_SLOT) {
      this.#firstSlot = head;
      this.#firstWord = word;
    } else {
      const { desc32, descBase } = this.#ring;
      desc32[descBase + head * WORDS + ID_FLAGS] = word;
    }
  }

  /** Descriptors after the first look available already: the device must not come upon them behind a later request. */
  #takeBack(id: number, placed: number): number {
    const { desc32, descBase, size } = this.#ring;
    for (let i = 1; i < placed; i++) {
      const slot = this.#nextSlot + i;
      const wrapped = slot >= size;
      const at = descBase + (wrapped ? slot - size : slot) * WORDS;
      desc32[at + ID_FLAGS] = wrapped ? this.#nextBits : this.#nextBits ^ OWNER;
    }
    return this.#takeBackTable(id, placed);
  }

  #takeBackTable(first: number, placed: number): number {
    if (this.#requests.records.end(first, placed)) return NO_ADDRESS;
    this.#requests.isMemoryHeld = true;
    this.#break('2.8.21', `The device holds memory of a request that was never made available`);
    return BROKEN;
  }

  /** As `SplitDriverQueue` does it; the id of a request is the slot of its first descriptor then (§2.8.8). */
  #popInOrder(): number {
    const requests = this.#requests;
    if (this.#batchLast === NO_BATCH && !this.#openBatch()) return NONE;
    const id = requests.oldestId;
    const token = requests.token(id);
    const isLast = id === this.#batchLast;
    const slotCount = isLast ? requests.finish(id, this.#batchWritten) : requests.finishWhole(id);
    if (slotCount === 0) return this.#rejectHeld(id);
    if (isLast) this.#batchLast = NO_BATCH;
    this.#skip(slotCount);
    return token;
  }

  #openBatch(): boolean {
    if (!this.#isUsedSeen && !this.#look()) return false;
    const { desc32, descBase } = this.#ring;
    const id = this.#usedWord & ID_MASK;
    if (id >= this.size || this.#requests.token(id) < 0) {
      this.#rejectId(id);
      return false;
    }
    this.#batchLast = id;
    this.#batchWritten = desc32[descBase + this.#usedSlot * WORDS + LEN]! >>> 0;
    this.#isUsedSeen = false;
    return true;
  }

  /** To the slot after a request: the device writes the next used descriptor there (§2.8.6). */
  #skip(slotCount: number): void {
    const next = this.#usedSlot + slotCount;
    if (next < this.size) this.#usedSlot = next;
    else {
      this.#usedSlot = next - this.size;
      this.#usedWordBits ^= OWNER;
    }
  }

  /** Loads the next used descriptor's last word; before it answers "nothing" it has asked for a call and loaded it again. */
  #look(): boolean {
    if (this.#stopped) return false;
    const { desc32, descBase } = this.#ring;
    const at = descBase + this.#usedSlot * WORDS + ID_FLAGS;
    const bits = this.#usedWordBits;
    let word = loadWordAcquire(desc32, at);
    if ((word & OWNER) !== bits) {
      if (!this.#events.ask(this.#usedPosition())) return false;
      word = loadWordAcquire(desc32, at);
      if ((word & OWNER) !== bits) return false;
    }
    if (this.#requests.publishedCount === 0) {
      this.#break('2.8.15', `Descriptor ${hex(this.#usedSlot)} was used, though the device has no request`);
      return false;
    }
    this.#usedWord = word;
    this.#isUsedSeen = true;
    return true;
  }

  #usedPosition(): number {
    return packedPosition(this.#usedSlot, this.#usedWordBits === 0 ? 0 : 1);
  }

  #rejectId(id: number): number {
    const where = `Used descriptor ${hex(this.#usedSlot)} names buffer id ${hex(id)}`;
    const why =
      id >= this.size ? `in a queue of ${hex(this.size)}` : 'which no request has that the device has';
    return this.#break('2.8.22', `${where}, ${why}`);
  }

  #rejectHeld(id: number): number {
    const what = `The device still holds memory of the request with buffer id ${hex(id)}, which it completed`;
    return this.#break('2.8.22', what);
  }

  #break(section: string, message: string): number {
    this.#violation ??= violation(section, message);
    this.#stop();
    return NONE;
  }

  /** From here on nothing is added, popped or written; `popUsed` needs no check of its own for it. */
  #stop(): void {
    this.#stopped = true;
    this.#isUsedSeen = false;
    this.#batchLast = NO_BATCH;
  }
}
