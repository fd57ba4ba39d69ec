import { VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY } from '@virtlab/abi/virtio-ring';
import { loadIndexAcquire, type MappedArea, storeIndexRelease } from '@virtlab/guest-memory';
import { ChainPool } from './chain-pool.ts';
import { ChainReader } from './chain-reader.ts';
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
} from './contract.ts';
import type { RingChain } from './device-chain.ts';
import { vringNeedEvent } from './need-event.ts';
import { type RingSnapshotState, snapshotReleased, snapshotRing } from './ring-snapshot.ts';
import { RingViews, USED_ELEM_ID, USED_ELEM_LEN, USED_ELEM_WORDS } from './ring-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const NO_INTERRUPT = VRING_AVAIL_F_NO_INTERRUPT;
const NO_NOTIFY = VRING_USED_F_NO_NOTIFY;
const USED_ID = USED_ELEM_ID;
const USED_LEN = USED_ELEM_LEN;
const USED_WORDS = USED_ELEM_WORDS;
const TAKEN = POSITION_TAKEN;

/** The device half of a split virtqueue (VIRTIO 1.4 §2.7). See README, "Memory ordering", for why no wake-up is lost. */
export class SplitDeviceQueue implements DeviceQueue {
  readonly size: number;
  readonly #ring: RingViews;
  readonly #areas: readonly MappedArea[];
  readonly #memory: DeviceQueueOptions['memory'];
  readonly #features: RingFeatures;
  readonly #eventIdx: boolean;
  readonly #reader: ChainReader;
  readonly #chains: ChainPool;
  /** With IN_ORDER only. */
  readonly #order: CompletionOrder | undefined;

  /** Entry that `pop` takes next. */
  #nextAvail = 0;
  /** Available index as last read and found valid. */
  #seenAvail = 0;
  /** Entries that were popped and taken back; they lie at `#nextAvail` and after. */
  #undoneCount = 0;
  /** Heads that a predecessor had popped, and that `pop` gives first; undefined once there are none. */
  #takenHeads: number[] | undefined = undefined;
  /** Used entries written, and the index that the driver can see. */
  #stagedUsed = 0;
  #publishedUsed = 0;
  /** With IN_ORDER: where the entry of the batch staged last stands. */
  #batchStart = 0;
  /** Entries published since `needsCall` was last asked; not modulo 65536, so a whole lap is noticed. */
  #unaskedCount = 0;

  #kicksEnabled = true;
  /** What `avail_event` holds, or -1 while only the driver has written it. */
  #availEvent = -1;
  #stopped = false;
  #released = false;
  #violation: RingViolation | undefined = undefined;

  /** `areas` are descriptor table, available ring and used ring; `start` is what `options.start` says, checked. */
  constructor(options: DeviceQueueOptions, segmentCountMax: number, areas: readonly MappedArea[]) {
    const { addresses, memory, features, start, takenChains = [] } = options;
    const ring = new RingViews(addresses.size, areas[0]!, areas[1]!, areas[2]!);
    this.size = ring.size;
    this.#ring = ring;
    this.#areas = areas;
    this.#memory = memory;
    this.#features = features;
    this.#eventIdx = features.eventIdx;
    this.#reader = new ChainReader(ring, memory, features.indirect, segmentCountMax);
    this.#chains = new ChainPool(memory, ring.size, segmentCountMax);
    this.#order = features.inOrder === true ? new CompletionOrder(ring.size) : undefined;
    if (start === undefined) return;
    this.#nextAvail = start.available;
    this.#seenAvail = start.available;
    this.#stagedUsed = start.used;
    this.#publishedUsed = start.used;
    if (takenChains.length > 0) this.#takenHeads = takenChains.map(({ head }) => head);
    // Whoever had the ring before may have wanted no kicks.
    storeIndexRelease(ring.used16, ring.usedFlags, 0);
  }

  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  get inFlightCount(): number {
    return this.#chains.inFlightCount;
  }

  hasAvailable(): boolean {
    return this.#takenHeads !== undefined || this.#nextAvail !== this.#seenAvail || this.#look();
  }

  pop(): RingChain | undefined {
    if (this.#takenHeads !== undefined) return this.#popTaken(this.#takenHeads);
    const position = this.#nextAvail;
    if (position === this.#seenAvail && !this.#look()) return undefined;
    const ring = this.#ring;
    const chains = this.#chains;
    const slot = position & ring.mask;
    const head = ring.avail16[ring.availRing + slot]!;
    if (head >= ring.size || chains.isTaken(head)) return this.#rejectHead(head, slot);
    const chain = chains.peek();
    if (!this.#reader.read(chain, head)) return this.#break(this.#reader.violation);
    chains.take(chain, head);
    chain.position = position;
    this.#order?.add(slot, chain);
    this.#nextAvail = (position + 1) & 0xffff;
    if (this.#undoneCount !== 0) this.#undoneCount--;
    return chain;
  }

  undoPop(chain: DescriptorChain): void {
    if (this.#released) return;
    const own = this.#chains.own(chain);
    if (own.position === TAKEN) {
      this.#undoTaken(own);
      return;
    }
    const position = (this.#nextAvail - 1) & 0xffff;
    if (own.position !== position) throw new RangeError(`Chain ${own.head} is not the one popped last`);
    this.#chains.undo(own);
    this.#order?.undo(position & this.#ring.mask);
    this.#nextAvail = position;
    if (this.#stopped) this.#seenAvail = position;
    else this.#undoneCount++;
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
    const staged = this.#stagedUsed;
    this.#writeUsed(staged, own.head, writtenSize);
    this.#stagedUsed = (staged + 1) & 0xffff;
  }

  publish(): void {
    const staged = this.#stagedUsed;
    if (staged === this.#publishedUsed || this.#stopped) return;
    this.#unaskedCount += (staged - this.#publishedUsed) & 0xffff;
    this.#publishedUsed = staged;
    if (this.#order !== undefined) this.#order.mayExtend = false;
    storeIndexRelease(this.#ring.used16, this.#ring.usedIdx, staged);
  }

  needsCall(): boolean {
    this.publish();
    const count = this.#unaskedCount;
    if (count === 0 || this.#stopped) return false;
    this.#unaskedCount = 0;
    const { avail16, availFlags, usedEvent } = this.#ring;
    if (!this.#eventIdx) return (loadIndexAcquire(avail16, availFlags) & NO_INTERRUPT) === 0;
    // After a full lap the 16-bit window no longer tells what was crossed: call rather than lose one (§2.7.7.2).
    if (count > 0xffff) return true;
    return vringNeedEvent(
      loadIndexAcquire(avail16, usedEvent),
      this.#publishedUsed,
      this.#publishedUsed - count,
    );
  }

  disableKicks(): void {
    if (!this.#kicksEnabled || this.#stopped) return;
    this.#kicksEnabled = false;
    const { used16, usedFlags } = this.#ring;
    if (!this.#eventIdx) {
      storeIndexRelease(used16, usedFlags, NO_NOTIFY);
      return;
    }
    // An event that has passed stays quiet by itself; one that is still to come moves half a lap away.
    const unseen = this.#unseenAvail();
    if (this.#availEvent === unseen || this.#availEvent < 0) this.#writeAvailEvent(unseen ^ 0x8000);
  }

  /**
   * True also for entries that `pop` has not reached yet; chains taken back by `undoPop` do not count, so that a
   * device can wait for more than it was given.
   */
  enableKicks(): boolean {
    if (this.#stopped) return false;
    const { used16, usedFlags, avail16, availIdx } = this.#ring;
    const unseen = this.#unseenAvail();
    if (this.#eventIdx) {
      if (this.#availEvent !== unseen) this.#writeAvailEvent(unseen);
    } else if (!this.#kicksEnabled) storeIndexRelease(used16, usedFlags, 0);
    this.#kicksEnabled = true;
    return this.#accept(loadIndexAcquire(avail16, availIdx)) && this.#seenAvail !== unseen;
  }

  position(): QueuePosition {
    return { available: this.#nextAvail, used: this.#publishedUsed };
  }

  handOver(): QueueHandOver {
    const used = this.#publishedUsed;
    if (this.#order !== undefined) return { start: { available: used, used }, takenChains: [] };
    const chains = this.#chains.unfinished();
    const available = (this.#nextAvail - this.#chains.takeNewest(chains).length) & 0xffff;
    const heads = [...chains.map(({ head }) => head), ...(this.#takenHeads ?? [])];
    return { start: { available, used }, takenChains: heads.map((head) => ({ head })) };
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#stop();
    this.#chains.release();
    for (const area of this.#areas) this.#memory.unmapArea(area);
  }

  snapshot(): RingSnapshot {
    const state: RingSnapshotState = {
      side: 'device',
      features: this.#features,
      shadowAvailIdx: this.#nextAvail,
      shadowUsedIdx: this.#publishedUsed,
      inFlight: this.#chains.inFlight(),
      violation: this.#violation,
    };
    return this.#released ? snapshotReleased(this.size, state) : snapshotRing(this.#ring, state);
  }

  /** Reads the available index; before it answers "nothing" it has asked for a kick and looked again. */
  #look(): boolean {
    if (this.#stopped) return false;
    const { avail16, availIdx } = this.#ring;
    const seen = this.#seenAvail;
    let index = loadIndexAcquire(avail16, availIdx);
    if (index === seen && this.#eventIdx && this.#kicksEnabled && this.#availEvent !== seen) {
      this.#writeAvailEvent(seen);
      index = loadIndexAcquire(avail16, availIdx);
    }
    return this.#accept(index) && index !== seen;
  }

  /** Takes over an available index, unless it moved back or announces more than a queue can hold (§2.7.6.1). */
  #accept(index: number): boolean {
    const ahead = (index - this.#nextAvail) & 0xffff;
    if (ahead > this.size || ahead < ((this.#seenAvail - this.#nextAvail) & 0xffff)) {
      const from = `at ${hex(this.#nextAvail)} of a queue of ${hex(this.size)}, last seen ${hex(this.#seenAvail)}`;
      this.#break(violation('2.7.6.1', `Available index moved to ${hex(index)} with the device ${from}`));
      return false;
    }
    this.#seenAvail = index;
    return true;
  }

  #unseenAvail(): number {
    return (this.#nextAvail + this.#undoneCount) & 0xffff;
  }

  #writeAvailEvent(event: number): void {
    this.#availEvent = event;
    storeIndexRelease(this.#ring.used16, this.#ring.availEvent, event);
  }

  /**
   * Stages what is done and has nothing undone before it. A chain that was written in full needs no entry of its own when
   * one after it gets one, at the place of the first of such a batch (§2.7.9).
   */
  #stageInOrder(order: CompletionOrder): void {
    const mask = this.#ring.mask;
    for (;;) {
      const staged = this.#stagedUsed;
      const chain = order.take(staged & mask);
      if (chain === undefined) return;
      if (!order.mayExtend) this.#batchStart = staged;
      this.#writeUsed(this.#batchStart, chain.head, chain.writtenSize);
      order.mayExtend = chain.isFull;
      this.#stagedUsed = (staged + 1) & 0xffff;
      this.#chains.free(chain);
    }
  }

  #writeUsed(position: number, head: number, writtenSize: number): void {
    const { used32, usedRing, mask } = this.#ring;
    const at = usedRing + (position & mask) * USED_WORDS;
    used32[at + USED_ID] = head;
    used32[at + USED_LEN] = writtenSize;
  }

  /** The next of a predecessor's requests: its head is checked as one of the available ring is. */
  #popTaken(heads: number[]): RingChain | undefined {
    const head = heads[0]!;
    const chains = this.#chains;
    if (head >= this.size || chains.isTaken(head)) {
      return this.#break(violation('2.7.13', `Descriptor ${hex(head)} was taken before, and cannot be`));
    }
    const chain = chains.peek();
    if (!this.#reader.read(chain, head)) return this.#break(this.#reader.violation);
    chains.take(chain, head);
    chain.position = TAKEN;
    heads.shift();
    if (heads.length === 0) this.#takenHeads = undefined;
    return chain;
  }

  #undoTaken(chain: RingChain): void {
    this.#chains.undo(chain);
    if (!this.#stopped) this.#takenHeads = [chain.head, ...(this.#takenHeads ?? [])];
  }

  #rejectHead(head: number, slot: number): undefined {
    const where = `Available entry ${hex(slot)} names descriptor ${hex(head)}`;
    return head >= this.size
      ? this.#break(violation('2.7.6', `${where} in a queue of ${hex(this.size)}`))
      : this.#break(violation('2.7.13', `${where}, which is in flight already`));
  }

  #break(reason: RingViolation | undefined): undefined {
    this.#violation ??= reason;
    this.#stop();
  }

  /** From here on nothing is popped and nothing is written; `pop` needs no check of its own for it. */
  #stop(): void {
    this.#stopped = true;
    this.#seenAvail = this.#nextAvail;
    this.#takenHeads = undefined;
    this.#undoneCount = 0;
  }
}

function refuseWritten(writtenSize: number, writableSize: number): never {
  throw new RangeError(`Written size ${writtenSize} is outside 0..${writableSize}`);
}
