import {
  VRING_AVAIL_ALIGN_SIZE,
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC_ALIGN_SIZE,
  VRING_USED_ALIGN_SIZE,
  VRING_USED_F_NO_NOTIFY,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import {
  type DeviceMemory,
  loadIndexAcquire,
  type MappedArea,
  storeIndexRelease,
} from '@virtlab/guest-memory';
import { ChainReader } from './chain-reader.ts';
import type {
  DescriptorChain,
  DeviceQueue,
  DeviceQueueOptions,
  RingFeatures,
  RingSnapshot,
  RingViolation,
} from './contract.ts';
import { RingChain } from './device-chain.ts';
import { vringNeedEvent } from './need-event.ts';
import { type RingSnapshotState, snapshotReleased, snapshotRing } from './ring-snapshot.ts';
import { isQueueSize, RingViews, USED_ELEM_ID, USED_ELEM_LEN, USED_ELEM_WORDS } from './ring-views.ts';
import { faultText, hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const NO_INTERRUPT = VRING_AVAIL_F_NO_INTERRUPT;
const NO_NOTIFY = VRING_USED_F_NO_NOTIFY;
const USED_ID = USED_ELEM_ID;
const USED_LEN = USED_ELEM_LEN;
const USED_WORDS = USED_ELEM_WORDS;

const SEGMENT_COUNT_MAX_DEFAULT = 1024;

export type DeviceQueueResult =
  | { readonly ok: true; readonly queue: DeviceQueue }
  | { readonly ok: false; readonly violation: RingViolation };

/**
 * Maps the areas that the driver named and makes the device half over them; used index 0. Whatever is wrong with
 * size, alignment or place is the driver's doing and comes back as a value, with nothing left mapped.
 * Throws `RangeError` only for a `segmentCountMax` that is no positive integer.
 */
export function createDeviceQueue(options: DeviceQueueOptions): DeviceQueueResult {
  const { addresses, memory, features, segmentCountMax = SEGMENT_COUNT_MAX_DEFAULT } = options;
  const { size } = addresses;
  if (!Number.isInteger(segmentCountMax) || segmentCountMax < 1) {
    throw new RangeError(`segmentCountMax ${segmentCountMax} is not a positive integer`);
  }
  if (!isQueueSize(size)) {
    const message = `Queue size ${hex(size)} is not a power of two of at most 0x8000`;
    return { ok: false, violation: violation('2.7', message) };
  }
  const wanted = [
    ['descriptor', addresses.descriptorArea, vringDescSize(size), VRING_DESC_ALIGN_SIZE, false],
    ['driver', addresses.driverArea, vringAvailSize(size), VRING_AVAIL_ALIGN_SIZE, false],
    ['device', addresses.deviceArea, vringUsedSize(size), VRING_USED_ALIGN_SIZE, true],
  ] as const;
  const areas: MappedArea[] = [];
  for (const [name, address, bytes, alignment, writable] of wanted) {
    const refusal = mapRingArea(memory, areas, name, address, bytes, alignment, writable);
    if (refusal === undefined) continue;
    for (const area of areas) memory.unmapArea(area);
    return { ok: false, violation: refusal };
  }
  const ring = new RingViews(size, areas[0]!, areas[1]!, areas[2]!);
  return { ok: true, queue: new SplitDeviceQueue(ring, areas, memory, features, segmentCountMax) };
}

function mapRingArea(
  memory: DeviceMemory,
  areas: MappedArea[],
  name: string,
  address: bigint,
  bytes: number,
  alignment: number,
  writable: boolean,
): RingViolation | undefined {
  const what = `The ${name} area at ${hex(address)}, ${hex(bytes)} bytes,`;
  if (address < 0n || address >= 1n << 64n) return violation('2.7', `${what} is no 64-bit address`);
  if (address % BigInt(alignment) !== 0n) {
    return violation('2.7.1', `${what} is not aligned to ${hex(alignment)}`);
  }
  const area = memory.mapArea(address, bytes, alignment, writable);
  if (typeof area === 'number') return violation('2.7', `${what} ${faultText(area)}`);
  areas.push(area);
  return undefined;
}

/** The device half of a split virtqueue (VIRTIO 1.4 §2.7). See README, "Memory ordering", for why no wake-up is lost. */
class SplitDeviceQueue implements DeviceQueue {
  readonly size: number;
  readonly #ring: RingViews;
  readonly #areas: readonly MappedArea[];
  readonly #memory: DeviceMemory;
  readonly #features: RingFeatures;
  readonly #eventIdx: boolean;
  readonly #segmentCountMax: number;
  readonly #reader: ChainReader;

  /** By head; made when a head is first used. A chain knows whether it is in flight. */
  readonly #chains: (RingChain | undefined)[];
  #inFlightCount = 0;

  /** Entry that `pop` takes next. */
  #nextAvail = 0;
  /** Available index as last read and found valid. */
  #seenAvail = 0;
  /** Entries that were popped and taken back; they lie at `#nextAvail` and after. */
  #undoneCount = 0;
  /** Used entries written, and the index that the driver can see. */
  #stagedUsed = 0;
  #publishedUsed = 0;
  /** Entries published since `needsCall` was last asked; not modulo 65536, so a whole lap is noticed. */
  #unaskedCount = 0;

  #kicksEnabled = true;
  /** What `avail_event` holds, or -1 while only the driver has written it. */
  #availEvent = -1;
  #stopped = false;
  #released = false;
  #violation: RingViolation | undefined = undefined;

  constructor(
    ring: RingViews,
    areas: readonly MappedArea[],
    memory: DeviceMemory,
    features: RingFeatures,
    segmentCountMax: number,
  ) {
    this.size = ring.size;
    this.#ring = ring;
    this.#areas = areas;
    this.#memory = memory;
    this.#features = features;
    this.#eventIdx = features.eventIdx;
    this.#segmentCountMax = segmentCountMax;
    this.#reader = new ChainReader(ring, memory, features.indirect, segmentCountMax);
    this.#chains = Array.from({ length: ring.size }, () => undefined);
  }

  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  hasAvailable(): boolean {
    return this.#nextAvail !== this.#seenAvail || this.#look();
  }

  pop(): RingChain | undefined {
    const position = this.#nextAvail;
    if (position === this.#seenAvail && !this.#look()) return undefined;
    const ring = this.#ring;
    const head = ring.avail16[ring.availRing + (position & ring.mask)]!;
    if (head >= ring.size) return this.#rejectHead(head, position);
    const chain = this.#chains[head] ?? this.#makeChain(head);
    if (chain.inFlight) return this.#rejectHead(head, position);
    if (!this.#reader.read(chain, head)) return this.#break(this.#reader.violation);
    chain.inFlight = true;
    chain.position = position;
    this.#inFlightCount++;
    this.#nextAvail = (position + 1) & 0xffff;
    if (this.#undoneCount !== 0) this.#undoneCount--;
    return chain;
  }

  undoPop(chain: DescriptorChain): void {
    if (this.#released) return;
    const own = this.#own(chain);
    const position = (this.#nextAvail - 1) & 0xffff;
    if (own.position !== position) throw new RangeError(`Chain ${own.head} is not the one popped last`);
    this.#recycle(own);
    this.#nextAvail = position;
    if (this.#stopped) this.#seenAvail = position;
    else this.#undoneCount++;
  }

  push(chain: DescriptorChain, writtenSize: number): void {
    if (this.#released) return;
    const own = this.#own(chain);
    if (!(writtenSize >= 0 && writtenSize <= own.writableSize)) {
      throw new RangeError(`Written size ${writtenSize} is outside 0..${own.writableSize}`);
    }
    const head = own.head;
    this.#recycle(own);
    if (this.#stopped) return;
    const { used32, usedRing, mask } = this.#ring;
    const staged = this.#stagedUsed;
    const at = usedRing + (staged & mask) * USED_WORDS;
    used32[at + USED_ID] = head;
    used32[at + USED_LEN] = writtenSize;
    this.#stagedUsed = (staged + 1) & 0xffff;
  }

  publish(): void {
    const staged = this.#stagedUsed;
    if (staged === this.#publishedUsed || this.#stopped) return;
    this.#unaskedCount += (staged - this.#publishedUsed) & 0xffff;
    this.#publishedUsed = staged;
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

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#stop();
    for (const chain of this.#chains) chain?.unmap();
    this.#chains.fill(undefined);
    this.#inFlightCount = 0;
    for (const area of this.#areas) this.#memory.unmapArea(area);
  }

  snapshot(): RingSnapshot {
    const state: RingSnapshotState = {
      side: 'device',
      features: this.#features,
      shadowAvailIdx: this.#nextAvail,
      shadowUsedIdx: this.#publishedUsed,
      inFlight: this.#chains.flatMap((chain, head) => (chain?.inFlight === true ? [head] : [])),
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

  #makeChain(head: number): RingChain {
    const chain = new RingChain(this.#memory, head, this.#segmentCountMax);
    this.#chains[head] = chain;
    return chain;
  }

  #own(chain: DescriptorChain): RingChain {
    const own = this.#chains[chain.head];
    if (own === undefined || own !== chain || !own.inFlight) {
      throw new RangeError(`Chain ${chain.head} is not in flight here`);
    }
    return own;
  }

  #recycle(chain: RingChain): void {
    chain.unmap();
    chain.inFlight = false;
    this.#inFlightCount--;
  }

  #rejectHead(head: number, position: number): undefined {
    const where = `Available entry ${hex(position & this.#ring.mask)} names descriptor ${hex(head)}`;
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
    this.#undoneCount = 0;
  }
}
