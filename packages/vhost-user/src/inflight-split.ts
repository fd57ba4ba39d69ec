/** What a device has taken from a split ring, kept where a crash does not reach it ("Inflight I/O tracking", split). */
import {
  VHOST_USER_INFLIGHT_DESC_SPLIT,
  VHOST_USER_INFLIGHT_SPLIT,
  VHOST_USER_INFLIGHT_VERSION,
} from '@virtlab/abi/vhost-user';
import type { DescriptorChain, QueuePosition, TakenChain } from '@virtlab/virtio';
import { COUNTER_MAX, type InflightPlace, type InflightRecord, isInUse } from './inflight-area.ts';
import type { QueueObserver } from './observed-queue.ts';

const REGION = VHOST_USER_INFLIGHT_SPLIT;
const DESC = VHOST_USER_INFLIGHT_DESC_SPLIT;
// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const DESC_SIZE = DESC.size;
const IN_FLIGHT = DESC.offset.inflight;
const NEXT = DESC.offset.next;
const COUNTER = DESC.offset.counter;
const WORD = 2 ** 32;

/**
 * The words of one region. Everything in it may have been written by the peer, and is checked where it is read.
 *
 * Stores on the data path are plain, as libvhost-user's: whoever reads them comes after this process died, and finds what it
 * had done in the order of its program. What must not pass a publication cannot, for that is an atomic store.
 */
class SplitRegion {
  readonly queueSize: number;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #start: number;
  readonly #descs: number;
  readonly #batchHeadAt: number;
  readonly #usedIdxAt: number;

  constructor({ memory, offset, queueSize }: InflightPlace) {
    this.queueSize = queueSize;
    this.#u8 = memory.u8;
    this.#u16 = memory.u16;
    this.#u32 = memory.u32;
    this.#start = offset;
    this.#descs = offset + REGION.size;
    this.#batchHeadAt = (offset + REGION.offset.last_batch_head) / 2;
    this.#usedIdxAt = (offset + REGION.offset.used_idx) / 2;
  }

  get(field: 'version' | 'desc_num' | 'last_batch_head' | 'used_idx'): number {
    return Atomics.load(this.#u16, (this.#start + REGION.offset[field]) / 2);
  }
  set(field: 'version' | 'desc_num', value: number): void {
    Atomics.store(this.#u16, (this.#start + REGION.offset[field]) / 2, value);
  }
  setBatchHead(head: number): void {
    this.#u16[this.#batchHeadAt] = head;
  }
  setUsedIdx(used: number): void {
    this.#u16[this.#usedIdxAt] = used;
  }

  isInFlight(head: number): boolean {
    return Atomics.load(this.#u8, this.#at(head) + DESC.offset.inflight) === 1;
  }
  setInFlight(head: number, value: 0 | 1): void {
    this.#u8[this.#descs + head * DESC_SIZE + IN_FLIGHT] = value;
  }
  next(head: number): number {
    return this.#u16[(this.#at(head) + DESC.offset.next) / 2]!;
  }
  setNext(head: number, next: number): void {
    this.#u16[(this.#descs + head * DESC_SIZE + NEXT) >>> 1] = next;
  }
  counter(head: number): number {
    const at = (this.#at(head) + DESC.offset.counter) / 4;
    return this.#u32[at]! + this.#u32[at + 1]! * WORD;
  }
  setCounter(head: number, counter: number): void {
    const at = (this.#descs + head * DESC_SIZE + COUNTER) >>> 2;
    this.#u32[at] = counter;
    this.#u32[at + 1] = counter / WORD;
  }
  get isInUse(): boolean {
    return isInUse(this.get('version'), this.get('desc_num'), this.queueSize);
  }
  /** Nothing was kept, from the first store on: without its version the rest of a region means nothing. */
  clear(): void {
    this.set('version', 0);
    this.#u8.fill(0, this.#start, this.#start + REGION.size + this.queueSize * DESC.size);
  }

  #at(head: number): number {
    return this.#descs + head * DESC_SIZE;
  }
}

/** With `isInOrder` nothing is kept but the used index: requests are done again from there on. */
export class SplitInflightRecord implements InflightRecord {
  readonly #region: SplitRegion;
  readonly #ringSize: number;
  readonly #isInOrder: boolean;

  constructor(place: InflightPlace, ringSize: number, isInOrder: boolean) {
    this.#region = new SplitRegion(place);
    this.#ringSize = ringSize;
    this.#isInOrder = isInOrder;
  }

  recover(usedIdx: number): { start: QueuePosition; takenChains: readonly TakenChain[] } | undefined {
    const region = this.#region;
    if (!region.isInUse) return undefined;
    const missed = this.#missed(usedIdx);
    if (missed > 0 && missed <= this.#ringSize) this.#endBatch(missed);
    const heads = missed > this.#ringSize ? [] : this.#heads();
    const available = this.#isInOrder ? usedIdx : (usedIdx + heads.length) & 0xffff;
    const takenChains = this.#isInOrder ? [] : heads.map((head) => ({ head }));
    return { start: { available, used: usedIdx }, takenChains };
  }

  begin({ used }: QueuePosition, takenChains: readonly TakenChain[]): QueueObserver {
    const region = this.#region;
    const counter = this.#goOn(used, takenChains) ?? this.#beginAnew(used, takenChains);
    return new SplitTracker(region, used, counter, this.#isInOrder);
  }

  end(): void {
    this.#region.set('version', 0);
  }

  /** Publications that the region does not know of. More than a ring's worth: it is of another ring's past, and says nothing. */
  #missed(usedIdx: number): number {
    return (usedIdx - this.#region.get('used_idx')) & 0xffff;
  }

  /** What is in flight, oldest first. */
  #heads(): number[] {
    const region = this.#region;
    const heads: number[] = [];
    for (let head = 0; head < this.#ringSize; head += 1) if (region.isInFlight(head)) heads.push(head);
    return heads.toSorted((a, b) => region.counter(a) - region.counter(b));
  }

  /**
   * Leaves a region as it is that says what is to be kept, and answers the next counter. Who dies behind any of the stores leaves
   * a region that says the same:
   * - The used index, which a last publication may be ahead of: before, what was published is found by the list of its batch,
   *   whose flags `recover` has cleared, and is cleared once more; behind it there is nothing to be found.
   * - Requests that the ring itself gives again, newest first: with each the region says that one request less was taken, and
   *   those that were taken are still all up to some point.
   */
  #goOn(used: number, takenChains: readonly TakenChain[]): number | undefined {
    const region = this.#region;
    const missed = this.#missed(used);
    if (!region.isInUse || missed > this.#ringSize) return undefined;
    const heads = this.#heads();
    const isKept = takenChains.every(({ head }, at) => heads[at] === head);
    if (!isKept || (takenChains.length === 0 && heads.length > 0)) return undefined;
    const newest = heads.at(-1);
    const counter = newest === undefined ? 0 : region.counter(newest) + 1;
    if (counter > COUNTER_MAX) return undefined;
    if (missed > 0) region.setUsedIdx(used);
    for (const head of heads.slice(takenChains.length).toReversed()) region.setInFlight(head, 0);
    // Of a larger ring, or nobody's: no ring of this size looks at them.
    for (let head = this.#ringSize; head < region.queueSize; head += 1)
      if (region.isInFlight(head)) region.setInFlight(head, 0);
    return counter;
  }

  /** Forgets with the first store what there was, and says all that there is with the last. */
  #beginAnew(used: number, takenChains: readonly TakenChain[]): number {
    const region = this.#region;
    region.clear();
    region.set('desc_num', region.queueSize);
    region.setUsedIdx(used);
    for (const [counter, { head }] of takenChains.entries()) {
      region.setCounter(head, counter);
      region.setInFlight(head, 1);
    }
    region.set('version', VHOST_USER_INFLIGHT_VERSION);
    return takenChains.length;
  }

  /** The last publication was seen by the driver, and not written down to its end. */
  #endBatch(count: number): void {
    const region = this.#region;
    let head = region.get('last_batch_head');
    for (let left = count; left > 0 && head < this.#ringSize; left -= 1) {
      region.setInFlight(head, 0);
      head = region.next(head);
    }
  }
}

class SplitTracker implements QueueObserver {
  readonly #region: SplitRegion;
  readonly #isInOrder: boolean;
  readonly #batch: Uint16Array;
  #batchCount = 0;
  /** As the region has it, which is not read back: what the peer makes of it is for whoever comes after. */
  #batchHead = 0;
  #used: number;
  #counter: number;

  constructor(region: SplitRegion, used: number, counter: number, isInOrder: boolean) {
    this.#region = region;
    this.#isInOrder = isInOrder;
    this.#batch = new Uint16Array(region.queueSize);
    this.#used = used;
    this.#counter = counter;
  }

  popped({ head, position }: DescriptorChain): void {
    if (position < 0 || this.#isInOrder) return;
    this.#region.setCounter(head, this.#counter);
    this.#counter += 1;
    this.#region.setInFlight(head, 1);
  }

  undoing({ head, position }: DescriptorChain): void {
    if (position >= 0 && !this.#isInOrder) this.#region.setInFlight(head, 0);
  }

  pushing({ head }: DescriptorChain): void {
    if (this.#isInOrder) return;
    const region = this.#region;
    region.setNext(head, this.#batchHead);
    region.setBatchHead(head);
    this.#batchHead = head;
    this.#batch[this.#batchCount] = head;
    this.#batchCount += 1;
  }

  published(): void {
    if (this.#isInOrder) return;
    const region = this.#region;
    for (let at = 0; at < this.#batchCount; at += 1) region.setInFlight(this.#batch[at]!, 0);
    this.#used = (this.#used + this.#batchCount) & 0xffff;
    this.#batchCount = 0;
    region.setUsedIdx(this.#used);
  }
}
