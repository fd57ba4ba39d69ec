import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_USED_F_NO_NOTIFY,
} from '@virtlab/abi/virtio-ring';
import { type DmaMapper, loadIndexAcquire, storeIndexRelease } from '@virtlab/guest-memory';
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
import { vringNeedEvent } from './need-event.ts';
import { type RingSnapshotState, snapshotReleased, snapshotRing } from './ring-snapshot.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
  RingViews,
  USED_ELEM_ID,
  USED_ELEM_LEN,
  USED_ELEM_WORDS,
} from './ring-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const NO_INTERRUPT = VRING_AVAIL_F_NO_INTERRUPT;
const F_INDIRECT = VRING_DESC_F_INDIRECT;
const F_NEXT = VRING_DESC_F_NEXT;
const NO_NOTIFY = VRING_USED_F_NO_NOTIFY;
const BROKEN = ADD_BROKEN;
const FULL = ADD_FULL;
const NO_ADDRESS = ADD_NO_ADDRESS;
const NO_BUFFER = NO_BUFFER_ADDRESS;
const NONE = NO_TOKEN;
const HIGH = DESC_ADDR_HIGH;
const LOW = DESC_ADDR_LOW;
const LINK = DESC_FLAGS_NEXT;
const LEN = DESC_LEN;
const NEXT_SHIFT = DESC_NEXT_SHIFT;
const WORDS = DESC_WORDS;
const ENTRY_SIZE = VRING_DESC.size;
const USED_ID = USED_ELEM_ID;
const USED_LEN = USED_ELEM_LEN;
const USED_WORDS = USED_ELEM_WORDS;

/** No batch of used buffers is being handed out. */
const NO_BATCH = -1;

/** The driver half of a split virtqueue (VIRTIO 1.4 §2.7). */
export class SplitDriverQueue implements DriverQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly #ring: RingViews;
  readonly #areas: DriverAreas;
  readonly #features: RingFeatures;
  readonly #eventIdx: boolean;
  readonly #requests: DriverRequests;
  readonly #inOrder: boolean;

  /** Available index that the device can see; what is staged beyond it stands in `#requests`. */
  #publishedAvail = 0;
  /** Entries published since `needsKick` was last asked; not modulo 65536, so a whole lap is noticed. */
  #unaskedCount = 0;
  /** Entry that `popUsed` takes next, and the used index as last read and found valid. */
  #nextUsed = 0;
  #seenUsed = 0;
  /** With IN_ORDER: the last request of the batch being handed out, and what was written to it. */
  #batchLast = NO_BATCH;
  #batchWritten = 0;

  #callsEnabled = true;
  /** What `used_event` holds; the area was zeroed. */
  #usedEvent = 0;
  #stopped = false;
  #released = false;
  #violation: RingViolation | undefined = undefined;

  constructor(areas: DriverAreas, dma: DmaMapper, features: RingFeatures) {
    const { size } = areas.addresses;
    this.size = size;
    this.addresses = areas.addresses;
    this.#ring = new RingViews(size, areas.descriptors, areas.driver, areas.device);
    this.#areas = areas;
    this.#features = features;
    this.#eventIdx = features.eventIdx;
    this.#inOrder = features.inOrder === true;
    this.#requests = new DriverRequests(dma, areas, this.#inOrder);
  }

  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  get kickData(): number {
    return this.#publishedAvail;
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
    const head = requests.freeId;
    const position = requests.stagedSequence;
    const status = inTable ? this.#placeIndirect(list, head, token) : this.#placeDirect(list, head, token);
    if (status !== 0) return status;
    const ring = this.#ring;
    ring.avail16[ring.availRing + (position & ring.mask)] = head;
    return 0;
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
    const head = requests.freeId;
    const position = requests.stagedSequence;
    requests.beginTable(count, writableSize, token);
    const { avail16, availRing, mask, desc32, descBase } = this.#ring;
    const at = descBase + head * WORDS;
    desc32[at + LOW] = addressLow;
    desc32[at + HIGH] = addressHigh;
    desc32[at + LEN] = count * ENTRY_SIZE;
    desc32[at + LINK] = F_INDIRECT;
    avail16[availRing + (position & mask)] = head;
    return 0;
  }

  publish(): void {
    const staged = this.#requests.stagedSequence;
    const published = this.#publishedAvail;
    if (staged === published || this.#stopped) return;
    this.#unaskedCount += (staged - published) & 0xffff;
    this.#publishedAvail = staged;
    this.#requests.publishedSequence = staged;
    storeIndexRelease(this.#ring.avail16, this.#ring.availIdx, staged);
  }

  needsKick(): boolean {
    this.publish();
    const count = this.#unaskedCount;
    if (count === 0 || this.#stopped) return false;
    this.#unaskedCount = 0;
    const { used16, usedFlags, availEvent } = this.#ring;
    if (!this.#eventIdx) return (loadIndexAcquire(used16, usedFlags) & NO_NOTIFY) === 0;
    // After a full lap the 16-bit window no longer tells what was crossed: kick rather than lose one (§2.7.10.1).
    if (count > 0xffff) return true;
    return vringNeedEvent(
      loadIndexAcquire(used16, availEvent),
      this.#publishedAvail,
      this.#publishedAvail - count,
    );
  }

  hasUsed(): boolean {
    return this.#nextUsed !== this.#seenUsed || this.#look();
  }

  popUsed(): number {
    const position = this.#nextUsed;
    if (position === this.#seenUsed && !this.#look()) return NONE;
    if (this.#inOrder) return this.#popInOrder(position);
    const { used32, usedRing, mask } = this.#ring;
    const requests = this.#requests;
    const at = usedRing + (position & mask) * USED_WORDS;
    const head = used32[at + USED_ID]!;
    const written = used32[at + USED_LEN]!;
    const token = head < this.size ? requests.token(head) : NONE;
    if (token < 0) return this.#rejectId(head, position);
    if (requests.finish(head, written) === 0) return this.#rejectHeld(head);
    this.#nextUsed = (position + 1) & 0xffff;
    return token;
  }

  disableCalls(): void {
    if (!this.#callsEnabled || this.#stopped) return;
    this.#callsEnabled = false;
    const { avail16, availFlags } = this.#ring;
    if (!this.#eventIdx) storeIndexRelease(avail16, availFlags, NO_INTERRUPT);
    // An event that has passed stays quiet by itself; one that is still to come moves half a lap away.
    else if (this.#usedEvent === this.#nextUsed) this.#writeUsedEvent(this.#nextUsed ^ 0x8000);
  }

  /** True also for entries that `popUsed` has not reached yet. */
  enableCalls(): boolean {
    if (this.#stopped) return false;
    const { avail16, availFlags, used16, usedIdx } = this.#ring;
    if (this.#eventIdx) {
      if (this.#usedEvent !== this.#nextUsed) this.#writeUsedEvent(this.#nextUsed);
    } else if (!this.#callsEnabled) storeIndexRelease(avail16, availFlags, 0);
    this.#callsEnabled = true;
    return this.#accept(loadIndexAcquire(used16, usedIdx)) && this.#seenUsed !== this.#nextUsed;
  }

  handOver(again: boolean): QueuePosition | undefined {
    const { used16, usedFlags, usedIdx } = this.#ring;
    if (this.#stopped) return undefined;
    const used = loadIndexAcquire(used16, usedIdx);
    if (!this.#accept(used)) return undefined;
    // In order, the entries from the used index on are those of what is left.
    if (again && !this.#inOrder && !this.#offerAgain(used)) return undefined;
    // Whether kicks were wanted is not the new device's word.
    storeIndexRelease(used16, usedFlags, 0);
    return { available: used, used };
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
    const state: RingSnapshotState = {
      side: 'driver',
      features: this.#features,
      shadowAvailIdx: this.#requests.stagedSequence,
      shadowUsedIdx: this.#nextUsed,
      inFlight: this.#requests.inFlight(),
      violation: this.#violation,
    };
    return this.#released ? snapshotReleased(this.size, state) : snapshotRing(this.#ring, state);
  }

  /** As many entries as are between the used and the available index name what was published and is not used. */
  #offerAgain(used: number): boolean {
    const requests = this.#requests;
    const { avail16, availRing, used32, usedRing, mask } = this.#ring;
    const left = new Set(requests.inFlight().filter((id) => requests.token(id) >= 0));
    for (let position = this.#nextUsed; position !== used; position = (position + 1) & 0xffff) {
      const head = used32[usedRing + (position & mask) * USED_WORDS + USED_ID]!;
      if (left.delete(head)) continue;
      this.#rejectId(head, position);
      return false;
    }
    const age = (head: number): number => (this.#publishedAvail - requests.sequence(head)) & 0xffff;
    const heads = [...left].toSorted((a, b) => age(b) - age(a));
    for (const [i, head] of heads.entries()) avail16[availRing + ((used + i) & mask)] = head;
    return true;
  }

  /** Along the free descriptors, or the ring in order (§2.7.5, §2.7.9). */
  #placeDirect(list: RingBufferList, head: number, token: number): number {
    const { records } = this.#requests;
    const { desc32, descBase } = this.#ring;
    const count = list.count;
    let record = head;
    for (let i = 0; ;) {
      const at = descBase + record * WORDS;
      const flags = records.place(list, i, record, at);
      if (flags === NO_BUFFER) return this.#takeBack(head, i);
      if (++i === count) {
        desc32[at + LINK] = flags;
        break;
      }
      record = records.next(record);
      desc32[at + LINK] = flags | F_NEXT | (record << NEXT_SHIFT);
    }
    this.#requests.begin(list, token, head, record);
    return 0;
  }

  /** The table that belongs to the head descriptor holds the buffers (§2.7.5.3). */
  #placeIndirect(list: RingBufferList, head: number, token: number): number {
    const requests = this.#requests;
    const { tableBase, tableCapacity, tableLow, tableHigh } = this.#areas;
    const first = requests.tableOf(head);
    const table = tableBase + head * tableCapacity * WORDS;
    const placed = requests.records.placeTable(list, first, table, false);
    if (placed !== list.count) return this.#takeBack(first, placed);
    const { desc32, descBase } = this.#ring;
    const at = descBase + head * WORDS;
    desc32[at + LOW] = tableLow[head]!;
    desc32[at + HIGH] = tableHigh[head]!;
    desc32[at + LEN] = placed * ENTRY_SIZE;
    desc32[at + LINK] = F_INDIRECT;
    requests.begin(list, token, first, head);
    return 0;
  }

  #takeBack(first: number, placed: number): number {
    if (this.#requests.records.end(first, placed)) return NO_ADDRESS;
    this.#requests.isMemoryHeld = true;
    this.#break('2.7.13', `The device holds memory of a request that was never made available`);
    return BROKEN;
  }

  /**
   * Requests come back as they were added, so that an entry names the last one of a batch only: those before it were used
   * as a whole, and none has an entry of its own (§2.7.9).
   */
  #popInOrder(position: number): number {
    const requests = this.#requests;
    if (this.#batchLast === NO_BATCH && !this.#openBatch(position)) return NONE;
    const head = requests.oldestId;
    const token = requests.token(head);
    const isLast = head === this.#batchLast;
    const slotCount = isLast ? requests.finish(head, this.#batchWritten) : requests.finishWhole(head);
    if (slotCount === 0) return this.#rejectHeld(head);
    if (isLast) this.#batchLast = NO_BATCH;
    this.#nextUsed = (position + 1) & 0xffff;
    return token;
  }

  /** Reads the entry of a batch, which must not reach beyond what the used index tells of. */
  #openBatch(position: number): boolean {
    const { used32, usedRing, mask } = this.#ring;
    const requests = this.#requests;
    const at = usedRing + (position & mask) * USED_WORDS;
    const head = used32[at + USED_ID]!;
    const written = used32[at + USED_LEN]!;
    const isOurs = head < this.size && requests.token(head) >= 0;
    if (
      !isOurs ||
      ((requests.sequence(head) - position) & 0xffff) >= ((this.#seenUsed - position) & 0xffff)
    ) {
      this.#rejectId(head, position);
      return false;
    }
    this.#batchLast = head;
    this.#batchWritten = written;
    return true;
  }

  /** Reads the used index; before it answers "nothing" it has asked for a call and looked again. */
  #look(): boolean {
    if (this.#stopped) return false;
    const { used16, usedIdx } = this.#ring;
    const next = this.#nextUsed;
    let index = loadIndexAcquire(used16, usedIdx);
    if (index === next && this.#eventIdx && this.#callsEnabled && this.#usedEvent !== next) {
      this.#writeUsedEvent(next);
      index = loadIndexAcquire(used16, usedIdx);
    }
    return this.#accept(index) && index !== next;
  }

  /** Takes over a used index, unless it moved back or tells of more requests than were published (§2.7.8). */
  #accept(index: number): boolean {
    const ahead = (index - this.#nextUsed) & 0xffff;
    const published = this.#requests.publishedCount;
    if (ahead > published || ahead < ((this.#seenUsed - this.#nextUsed) & 0xffff)) {
      const from = `at ${hex(this.#nextUsed)} with ${hex(published)} requests published, last seen ${hex(this.#seenUsed)}`;
      this.#break('2.7.8', `Used index moved to ${hex(index)} with the driver ${from}`);
      return false;
    }
    this.#seenUsed = index;
    return true;
  }

  #writeUsedEvent(event: number): void {
    this.#usedEvent = event;
    storeIndexRelease(this.#ring.avail16, this.#ring.usedEvent, event);
  }

  #rejectId(head: number, position: number): number {
    const where = `Used entry ${hex(position & this.#ring.mask)} names descriptor ${hex(head)}`;
    let why = 'which heads no request that the device has';
    if (head >= this.size) why = `in a queue of ${hex(this.size)}`;
    else if (this.#requests.token(head) >= 0) why = 'which is beyond the used index';
    return this.#break('2.7.8', `${where}, ${why}`);
  }

  #rejectHeld(head: number): number {
    return this.#break(
      '2.7.14',
      `The device still holds memory of the request at ${hex(head)}, which it completed`,
    );
  }

  #break(section: string, message: string): number {
    this.#violation ??= violation(section, message);
    this.#stop();
    return NONE;
  }

  /** From here on nothing is added, popped or written; `popUsed` needs no check of its own for it. */
  #stop(): void {
    this.#stopped = true;
    this.#seenUsed = this.#nextUsed;
  }
}
