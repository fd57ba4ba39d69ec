import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC,
  VRING_DESC_F_INDIRECT,
  VRING_USED_F_NO_NOTIFY,
} from '@virtlab/abi/virtio-ring';
import { type DmaMapper, loadIndexAcquire, storeIndexRelease } from '@virtlab/guest-memory';
import type { RingBufferList } from './buffer-list.ts';
import { BufferRecords } from './buffer-records.ts';
import {
  ADD_BROKEN,
  ADD_FULL,
  ADD_NO_ADDRESS,
  type BufferList,
  type DriverQueue,
  type DriverQueueOptions,
  type QueueAddresses,
  type RingFeatures,
  type RingSnapshot,
  type RingViolation,
} from './contract.ts';
import { DriverAreas } from './driver-areas.ts';
import { vringNeedEvent } from './need-event.ts';
import { type RingSnapshotState, snapshotReleased, snapshotRing } from './ring-snapshot.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_WORDS,
  isQueueSize,
  type RingViews,
  USED_ELEM_ID,
  USED_ELEM_LEN,
  USED_ELEM_WORDS,
} from './ring-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const NO_INTERRUPT = VRING_AVAIL_F_NO_INTERRUPT;
const F_INDIRECT = VRING_DESC_F_INDIRECT;
const NO_NOTIFY = VRING_USED_F_NO_NOTIFY;
const BROKEN = ADD_BROKEN;
const FULL = ADD_FULL;
const NO_ADDRESS = ADD_NO_ADDRESS;
const HIGH = DESC_ADDR_HIGH;
const LOW = DESC_ADDR_LOW;
const LINK = DESC_FLAGS_NEXT;
const LEN = DESC_LEN;
const WORDS = DESC_WORDS;
const USED_ID = USED_ELEM_ID;
const USED_LEN = USED_ELEM_LEN;
const USED_WORDS = USED_ELEM_WORDS;

const BUFFER_COUNT_MAX_DEFAULT = 128;
/** Token of a descriptor that heads no request in flight. */
const NO_TOKEN = -1;

/** Words kept for each head, in one array because each array touched costs. */
const HEAD_WORDS = 4;
/** What `popUsed` gives back, or `NO_TOKEN`. */
const HEAD_TOKEN = 0;
/** First record: the head itself, or the first of its table. */
const HEAD_FIRST = 1;
/** Buffers, and in the high half the available index at which the request was added. */
const HEAD_COUNT = 2;
const HEAD_POSITION_SHIFT = 16;
/** Writable bytes, as a signed word. */
const HEAD_WRITABLE = 3;

/**
 * Makes the driver half, with its areas allocated from `options.dma`. Throws `RangeError` for a size that is no power
 * of two of at most 32768 or a `bufferCountMax` that is no positive integer, `DmaError` when memory or grant entries
 * run out (nothing stays allocated).
 */
export function createDriverQueue(options: DriverQueueOptions): DriverQueue {
  const { size, dma, features, bufferCountMax = BUFFER_COUNT_MAX_DEFAULT } = options;
  if (!isQueueSize(size)) throw new RangeError(`Queue size ${size} is not a power of two of at most 32768`);
  if (!Number.isInteger(bufferCountMax) || bufferCountMax < 1) {
    throw new RangeError(`bufferCountMax ${bufferCountMax} is not a positive integer`);
  }
  // A chain may not be longer than the queue, in a table either (§2.7.5.3.1); a single buffer needs no table.
  const tableCapacity = Math.min(bufferCountMax, size);
  const areas = new DriverAreas(dma, size, features.indirect && tableCapacity > 1 ? tableCapacity : 0);
  return new SplitDriverQueue(areas, dma, features);
}

/** The driver half of a split virtqueue (VIRTIO 1.4 §2.7). */
class SplitDriverQueue implements DriverQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly #ring: RingViews;
  readonly #areas: DriverAreas;
  readonly #features: RingFeatures;
  readonly #eventIdx: boolean;
  readonly #tableCapacity: number;
  readonly #records: BufferRecords;

  /** `HEAD_WORDS` for each descriptor. */
  readonly #heads: Int32Array;

  #freeHead = 0;
  #freeCount: number;
  #inFlightCount = 0;
  #usedSize = 0;
  #clampedCount = 0;

  /** Available entries written, and the index that the device can see. */
  #stagedAvail = 0;
  #publishedAvail = 0;
  /** Entries published since `needsKick` was last asked; not modulo 65536, so a whole lap is noticed. */
  #unaskedCount = 0;
  /** Entry that `popUsed` takes next, and the used index as last read and found valid. */
  #nextUsed = 0;
  #seenUsed = 0;

  #callsEnabled = true;
  /** What `used_event` holds; the area was zeroed. */
  #usedEvent = 0;
  #stopped = false;
  #released = false;
  /** The device kept memory whose share should have ended; the queue is broken then. */
  #memoryHeld = false;
  #violation: RingViolation | undefined = undefined;

  constructor(areas: DriverAreas, dma: DmaMapper, features: RingFeatures) {
    const { size } = areas.ring;
    this.size = size;
    this.addresses = areas.addresses;
    this.#ring = areas.ring;
    this.#areas = areas;
    this.#features = features;
    this.#eventIdx = features.eventIdx;
    this.#tableCapacity = areas.tableCapacity;
    this.#records = new BufferRecords(dma, size, areas.tableCapacity);
    this.#heads = new Int32Array(size * HEAD_WORDS);
    for (let head = 0; head < size; head++) this.#heads[head * HEAD_WORDS + HEAD_TOKEN] = NO_TOKEN;
    this.#freeCount = size;
  }

  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  get usedSize(): number {
    return this.#usedSize;
  }

  get clampedCount(): number {
    return this.#clampedCount;
  }

  add(buffers: BufferList, token: number): number {
    if (this.#stopped) return BROKEN;
    const list = buffers as RingBufferList;
    if (list.words === undefined) throw new TypeError('Buffers were not made by createBufferList');
    const count = list.count;
    if (count === 0 || count > this.size) {
      throw new RangeError(
        `A request of ${count} buffers does not fit a queue of ${this.size} (VIRTIO §2.7.5.3.1)`,
      );
    }
    if ((token | 0) !== token || token < 0) throw new RangeError(`Token ${token} is not a 31-bit integer`);
    const indirect = count > 1 && count <= this.#tableCapacity;
    if ((indirect ? 1 : count) > this.#freeCount) return FULL;
    const head = this.#freeHead;
    const first = indirect ? this.size + head * this.#tableCapacity : head;
    const status = indirect ? this.#placeIndirect(list, head, first) : this.#placeDirect(list, head);
    if (status !== 0) return status;
    const position = this.#stagedAvail;
    const heads = this.#heads;
    const own = head * HEAD_WORDS;
    heads[own + HEAD_TOKEN] = token;
    heads[own + HEAD_FIRST] = first;
    heads[own + HEAD_COUNT] = count | (position << HEAD_POSITION_SHIFT);
    heads[own + HEAD_WRITABLE] = list.writableSize;
    this.#inFlightCount++;
    const ring = this.#ring;
    ring.avail16[ring.availRing + (position & ring.mask)] = head;
    this.#stagedAvail = (position + 1) & 0xffff;
    return 0;
  }

  publish(): void {
    const staged = this.#stagedAvail;
    if (staged === this.#publishedAvail || this.#stopped) return;
    this.#unaskedCount += (staged - this.#publishedAvail) & 0xffff;
    this.#publishedAvail = staged;
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
    if (position === this.#seenUsed && !this.#look()) return NO_TOKEN;
    const { used32, usedRing, mask } = this.#ring;
    const at = usedRing + (position & mask) * USED_WORDS;
    const head = used32[at + USED_ID]!;
    const written = used32[at + USED_LEN]!;
    if (head >= this.size) return this.#rejectId(head, position);
    const heads = this.#heads;
    const own = head * HEAD_WORDS;
    const token = heads[own + HEAD_TOKEN]!;
    if (token < 0 || (this.#stagedAvail !== this.#publishedAvail && this.#isStaged(head))) {
      return this.#rejectId(head, position);
    }
    if (!this.#recycle(head, heads[own + HEAD_FIRST]!, heads[own + HEAD_COUNT]! & 0xffff))
      return this.#rejectHeld(head);
    heads[own + HEAD_TOKEN] = NO_TOKEN;
    this.#inFlightCount--;
    this.#nextUsed = (position + 1) & 0xffff;
    const writable = heads[own + HEAD_WRITABLE]! >>> 0;
    if (written > writable) this.#clampedCount++;
    this.#usedSize = written > writable ? writable : written;
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

  markBroken(reason: RingViolation): void {
    this.#violation ??= reason;
    this.#stop();
  }

  release(onAbandoned?: (token: number) => void): boolean {
    if (this.#released) return !this.#memoryHeld;
    this.#released = true;
    this.#stop();
    const heads = this.#heads;
    for (let head = 0; head < this.size; head++) {
      const own = head * HEAD_WORDS;
      const token = heads[own + HEAD_TOKEN]!;
      if (token === NO_TOKEN) continue;
      if (!this.#records.end(heads[own + HEAD_FIRST]!, heads[own + HEAD_COUNT]! & 0xffff))
        this.#memoryHeld = true;
      heads[own + HEAD_TOKEN] = NO_TOKEN;
      this.#inFlightCount--;
      onAbandoned?.(token);
    }
    if (!this.#areas.free()) this.#memoryHeld = true;
    return !this.#memoryHeld;
  }

  snapshot(): RingSnapshot {
    const descriptors = Array.from({ length: this.size }, (_, index) => index);
    const state: RingSnapshotState = {
      side: 'driver',
      features: this.#features,
      shadowAvailIdx: this.#stagedAvail,
      shadowUsedIdx: this.#nextUsed,
      inFlight: descriptors.filter((index) => this.#heads[index * HEAD_WORDS + HEAD_TOKEN] !== NO_TOKEN),
      violation: this.#violation,
    };
    return this.#released ? snapshotReleased(this.size, state) : snapshotRing(this.#ring, state);
  }

  #placeDirect(buffers: RingBufferList, head: number): number {
    const records = this.#records;
    const count = buffers.count;
    const placed = records.place(buffers, head, this.#ring.descBase, 0);
    if (placed !== count) return this.#takeBack(head, placed);
    this.#freeHead = records.next(records.lastRecord);
    this.#freeCount -= count;
    return 0;
  }

  /** The table that belongs to the head descriptor holds the buffers, in order (§2.7.5.3). */
  #placeIndirect(buffers: RingBufferList, head: number, first: number): number {
    const records = this.#records;
    const areas = this.#areas;
    const placed = records.place(buffers, first, areas.tableBase - this.size * WORDS, first);
    if (placed !== buffers.count) return this.#takeBack(first, placed);
    const { desc32, descBase } = this.#ring;
    const at = descBase + head * WORDS;
    desc32[at + LOW] = areas.tableLow[head]!;
    desc32[at + HIGH] = areas.tableHigh[head]!;
    desc32[at + LEN] = placed * VRING_DESC.size;
    desc32[at + LINK] = F_INDIRECT;
    this.#freeHead = records.next(head);
    this.#freeCount--;
    return 0;
  }

  #takeBack(first: number, placed: number): number {
    if (this.#records.end(first, placed)) return NO_ADDRESS;
    this.#memoryHeld = true;
    this.#break('2.7.13', `The device holds memory of a request that was never made available`);
    return BROKEN;
  }

  /** Ends the shares and frees the descriptors of a request; false, with nothing freed, when the device holds memory. */
  #recycle(head: number, first: number, count: number): boolean {
    const records = this.#records;
    if (!records.end(first, count)) return false;
    if (first === head) {
      records.setNext(records.lastRecord, this.#freeHead);
      this.#freeCount += count;
    } else {
      records.setNext(head, this.#freeHead);
      this.#freeCount++;
    }
    this.#freeHead = head;
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
    const published = this.#inFlightCount - ((this.#stagedAvail - this.#publishedAvail) & 0xffff);
    if (ahead > published || ahead < ((this.#seenUsed - this.#nextUsed) & 0xffff)) {
      const from = `at ${hex(this.#nextUsed)} with ${hex(published)} requests published, last seen ${hex(this.#seenUsed)}`;
      this.#break('2.7.8', `Used index moved to ${hex(index)} with the driver ${from}`);
      return false;
    }
    this.#seenUsed = index;
    return true;
  }

  #isStaged(head: number): boolean {
    const staged = (this.#stagedAvail - this.#publishedAvail) & 0xffff;
    const position = this.#heads[head * HEAD_WORDS + HEAD_COUNT]! >>> HEAD_POSITION_SHIFT;
    return ((position - this.#publishedAvail) & 0xffff) < staged;
  }

  #writeUsedEvent(event: number): void {
    this.#usedEvent = event;
    storeIndexRelease(this.#ring.avail16, this.#ring.usedEvent, event);
  }

  #rejectId(head: number, position: number): number {
    const where = `Used entry ${hex(position & this.#ring.mask)} names descriptor ${hex(head)}`;
    const why =
      head >= this.size ? `in a queue of ${hex(this.size)}` : 'which heads no request that the device has';
    return this.#break('2.7.8', `${where}, ${why}`);
  }

  #rejectHeld(head: number): number {
    this.#memoryHeld = true;
    return this.#break(
      '2.7.14',
      `The device still holds memory of the request at ${hex(head)}, which it completed`,
    );
  }

  #break(section: string, message: string): number {
    this.#violation ??= violation(section, message);
    this.#stop();
    return NO_TOKEN;
  }

  /** From here on nothing is added, popped or written; `popUsed` needs no check of its own for it. */
  #stop(): void {
    this.#stopped = true;
    this.#seenUsed = this.#nextUsed;
  }
}
