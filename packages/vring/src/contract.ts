import type { DeviceMemory, DmaMapper, MemoryRegion, SegmentList } from '@virtlab/guest-memory';

/** What the other party did against the specification. A value: the owner of the queue decides what to do. */
export interface RingViolation {
  /** Section of the VIRTIO specification that was broken, e.g. `2.7.13.3`. */
  readonly section: string;
  /** Sentence naming what and where, offending values in hex. */
  readonly message: string;
}

/** Features that change how a ring is read; the negotiated set, not the offered one. */
export interface RingFeatures {
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  /** VIRTIO_F_RING_PACKED (§2.8); a split ring otherwise (§2.7). Default false. */
  readonly packed?: boolean;
  /** VIRTIO_F_IN_ORDER (§2.7.9, §2.8): the device gives buffers back in the order in which they were made available. Default false. */
  readonly inOrder?: boolean;
}

/** Device addresses of the three areas of a queue, as the driver chose them. */
export interface QueueAddresses {
  /** Entries, at most 32768; of a split ring a power of two. */
  readonly size: number;
  /** Descriptor table or ring (`queue_desc`), 16-byte aligned. */
  readonly descriptorArea: bigint;
  /** Available ring (`queue_driver`), 2-byte aligned; packed: driver event suppression, 4-byte aligned. */
  readonly driverArea: bigint;
  /** Used ring (`queue_device`), 4-byte aligned; packed: device event suppression, 4-byte aligned. */
  readonly deviceArea: bigint;
}

/**
 * One request as a device sees it: what the driver made available, copied and validated once, mapped, in order.
 * Belongs to its queue and is reused: valid from `pop` until `push`. Segments `[0, readableCount)` are
 * device-readable, `[readableCount, segments.count)` device-writable.
 */
export interface DescriptorChain {
  /** What names the request in the ring: split, the index of its head descriptor; packed, its buffer id. */
  readonly head: number;
  readonly segments: SegmentList;
  readonly readableCount: number;
  /** Bytes in each part. */
  readonly readableSize: number;
  readonly writableSize: number;
  /** Descriptors walked, for statistics. */
  readonly descriptorCount: number;
  /** Where it was popped: split, the available index; packed, the slot of its first descriptor. `POSITION_TAKEN` for one of `takenChains`. */
  readonly position: number;
  /** Ring slots that it takes; 1 in a split ring. */
  readonly slotCount: number;
  /** Regions that `segments.region` indexes. */
  readonly regions: readonly MemoryRegion[];

  /** Copies `out.length` readable bytes from byte `at` of the readable part. False if the part is shorter. */
  read(at: number, out: Uint8Array): boolean;
  /** Copies `bytes` to byte `at` of the writable part. False if the part is shorter. */
  write(at: number, bytes: Uint8Array): boolean;
  /** Little-endian words at byte `at` of the readable part (any alignment, may straddle segments); NaN if beyond it. */
  readU8(at: number): number;
  readU16(at: number): number;
  readU32(at: number): number;
  /** One byte to byte `at` of the writable part; false if beyond it. */
  writeU8(at: number, value: number): boolean;
  writeU16(at: number, value: number): boolean;
  writeU32(at: number, value: number): boolean;
}

/**
 * The device half of a virtqueue. Knows no doorbell: its owner asks `needsCall` and rings.
 * Not re-entrant; all methods are synchronous and do not allocate per request.
 */
export interface DeviceQueue {
  readonly size: number;
  /** Set once the driver broke a rule; from then on `pop` gives nothing. */
  readonly violation: RingViolation | undefined;
  /** Chains popped and not pushed. */
  readonly inFlightCount: number;

  /** Looks at the available index (once, acquire). False on a broken queue. */
  hasAvailable(): boolean;
  /** The next chain, or undefined when there is none or the queue broke (see `violation`). */
  pop(): DescriptorChain | undefined;
  /** Takes back the chain popped last, as if it had not been popped (before any push of it); it will be popped again. */
  undoPop(chain: DescriptorChain): void;
  /** Ends the chain's mappings and stages its used entry; `writtenSize` bytes of the writable part were written. */
  push(chain: DescriptorChain, writtenSize: number): void;
  /** Makes staged used entries visible to the driver: one release store for a batch. */
  publish(): void;
  /** Publishes, then answers whether the driver asked to be called for what was published since the last ask. */
  needsCall(): boolean;
  /** Asks the driver not to kick (a hint). */
  disableKicks(): void;
  /** Asks for kicks again; true when buffers became available meanwhile (the caller must then process them). */
  enableKicks(): boolean;
  /** Where the half stands between two batches; with it a queue can be taken over (`DeviceQueueOptions.start`). */
  position(): QueuePosition;
  /** What somebody who takes the queue over from here needs. For who stops it: nothing is popped or pushed behind it, and before `release`. */
  handOver(): QueueHandOver;
  /** Stops using guest memory: drops in-flight chains' mappings and the areas'. Nothing is written afterwards. */
  release(): void;
  snapshot(): RingSnapshot;
}

/**
 * Buffers of one request, filled by a driver and handed to `DriverQueue.add`; reusable. Device-readable ones first.
 * Each is either streaming (an offset in the mapper's memory, shared by `add` and unshared by `popUsed`) or
 * coherent (already lent: its device address is given).
 */
export interface BufferList {
  readonly count: number;
  clear(): void;
  addReadable(offset: number, size: number): void;
  addWritable(offset: number, size: number): void;
  addCoherentReadable(addressLow: number, addressHigh: number, size: number): void;
  addCoherentWritable(addressLow: number, addressHigh: number, size: number): void;
}

/** `DriverQueue.add` results below zero. */
export const ADD_FULL = -1;
/** No device address could be had (grant entries exhausted); retry after something completed. */
export const ADD_NO_ADDRESS = -2;
/** The queue is broken, see `violation`. */
export const ADD_BROKEN = -3;

/**
 * The driver half of a virtqueue. Owns its areas in the mapper's coherent memory; keeps all bookkeeping private and
 * reads back nothing that the device may write but the used ring and the event word.
 */
export interface DriverQueue {
  readonly addresses: QueueAddresses;
  readonly size: number;
  readonly violation: RingViolation | undefined;
  /**
   * Upper half of an available buffer notification under VIRTIO_F_NOTIFICATION_DATA (§2.9): where the next request goes.
   * Split: the available index; packed: `next_off` in bits 0 to 14 and the wrap counter in bit 15.
   */
  readonly kickData: number;
  /** Descriptors free (with indirect, one is enough for any list). */
  readonly freeCount: number;
  /** Requests added and not yet popped. */
  readonly inFlightCount: number;

  /** Stages a request; `token` (a non-negative 31-bit integer) comes back from `popUsed`. 0 on success, else `ADD_*`. */
  add(buffers: BufferList, token: number): number;
  /**
   * With indirect descriptors: stages a request whose `count` buffers stand in a table of the caller's, in coherent memory that is
   * 16-byte aligned and stays as it is until `popUsed` (`writeTableEntry`). For who sends many alike: nothing is copied or
   * looked at. `writableSize` as the table has it. 0 on success, else `ADD_FULL` or `ADD_BROKEN`.
   */
  addTable(
    addressLow: number,
    addressHigh: number,
    count: number,
    writableSize: number,
    token: number,
  ): number;
  /** Makes staged requests visible to the device: one release store for a batch. */
  publish(): void;
  /** Publishes, then answers whether the device asked to be kicked for what was published since the last ask. */
  needsKick(): boolean;
  /** Looks at the used index (once, acquire). */
  hasUsed(): boolean;
  /** Token of the next completed request, or -1; `usedSize` then holds what the device says it wrote, clamped. */
  popUsed(): number;
  readonly usedSize: number;
  /** Completions whose size the device overstated (they were clamped), for statistics. */
  readonly clampedCount: number;
  /** Asks the device not to call (a hint). */
  disableCalls(): void;
  /** Asks for calls again; true when used buffers arrived meanwhile (the caller must then pop them). */
  enableCalls(): boolean;
  /**
   * The device died and another takes the queue over: where it starts, or undefined when that cannot be told (broken queue;
   * packed, with requests in flight and `again`). With `again`, for a device that knows nothing of the one before, what
   * was published and is not used is made available once more from the used index on, in its order; some of it may then be
   * done twice, nothing is lost. Call while no device looks at the queue; what was used may be popped afterwards.
   */
  handOver(again: boolean): QueuePosition | undefined;
  /** Marks the queue broken (device died, call timed out): nothing is added or popped afterwards. */
  markBroken(violation: RingViolation): void;
  /** Ends all sharing and frees the areas. Tokens still in flight are given to `onAbandoned`. False if the device still holds memory. */
  release(onAbandoned?: (token: number) => void): boolean;
  snapshot(): RingSnapshot;
}

/** A decoded picture of a ring, for inspection; plain data, no live views. Which members it has depends on `format`. */
export type RingSnapshot = SplitRingSnapshot | PackedRingSnapshot;

/** What the pictures of both formats have. */
interface SnapshotBase {
  readonly side: 'driver' | 'device';
  readonly size: number;
  readonly features: RingFeatures;
  /** Names of the requests in flight: split, heads; packed, buffer ids. */
  readonly inFlight: readonly number[];
  readonly violation: RingViolation | undefined;
}

/** A split ring. Shadow indices are the owner's private copies. */
export interface SplitRingSnapshot extends SnapshotBase {
  readonly format: 'split';
  /** Shared words as they stand now. */
  readonly availIdx: number;
  readonly availFlags: number;
  readonly usedIdx: number;
  readonly usedFlags: number;
  readonly usedEvent: number;
  readonly availEvent: number;
  /** Private: driver: availIdx it will publish and last used index seen; device: last available index popped and used index published. */
  readonly shadowAvailIdx: number;
  readonly shadowUsedIdx: number;
  readonly descriptors: readonly {
    readonly address: bigint;
    readonly size: number;
    readonly flags: number;
    readonly next: number;
  }[];
  readonly available: readonly number[];
  readonly used: readonly { readonly id: number; readonly size: number }[];
}

/** A place in a packed ring: a slot on a lap with this wrap counter. */
export interface PackedPosition {
  readonly slot: number;
  readonly wrap: number;
}

/** An event suppression area as it stands now (§2.8.14); `flags` are `VRING_PACKED_EVENT_FLAG_*`, reserved bits included. */
export interface PackedEventSnapshot extends PackedPosition {
  readonly flags: number;
}

/** A packed ring. */
export interface PackedRingSnapshot extends SnapshotBase {
  readonly format: 'packed';
  /** What the driver wants of calls, and the device of kicks. */
  readonly driverEvent: PackedEventSnapshot;
  readonly deviceEvent: PackedEventSnapshot;
  /** Private: driver: where the next request goes and the next used descriptor is expected; device: what it pops next and where it stands with used descriptors that the driver can see. */
  readonly shadowAvail: PackedPosition;
  readonly shadowUsed: PackedPosition;
  /** Of a used descriptor, `size` is the written size and the address means nothing. */
  readonly descriptors: readonly {
    readonly address: bigint;
    readonly size: number;
    readonly id: number;
    readonly flags: number;
  }[];
}

/**
 * Where a device half stands, as 16 bits each. Split: the available index that it takes next and the used index it
 * writes next; packed: slots in bits 0 to 14 with the wrap counter in bit 15 (as vhost-user's vring base has them).
 */
export interface QueuePosition {
  readonly available: number;
  readonly used: number;
}

/**
 * A queue as it was left, for `DeviceQueueOptions`. Requests that were popped last and not finished count as never popped, as far
 * back as none behind them is finished: the ring has them. So does it have all that is not published under IN_ORDER. What else
 * was left unfinished, no position can say: it is `takenChains`, oldest first, and lies between the two indices of `start`.
 */
export interface QueueHandOver {
  readonly start: QueuePosition;
  readonly takenChains: readonly TakenChain[];
}

/** `DescriptorChain.position` of a request that a predecessor of this device half had popped. */
export const POSITION_TAKEN = -1;

/**
 * A request that a predecessor popped and did not finish, as it kept it. Whoever kept it is not trusted: it is checked as
 * what the driver writes is.
 */
export interface TakenChain {
  /** Split: the head descriptor, which is still in its table. Packed: the buffer id. */
  readonly head: number;
  /** Packed: the descriptors as they stood in the ring, in order; `flags` without their AVAIL and USED bits. */
  readonly descriptors?: readonly TakenDescriptor[];
}

export interface TakenDescriptor {
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly size: number;
  readonly flags: number;
}

export interface DeviceQueueOptions {
  readonly addresses: QueueAddresses;
  readonly memory: DeviceMemory;
  readonly features: RingFeatures;
  /** Largest number of mapped segments in one chain; more is a violation. Default 1024. */
  readonly segmentCountMax?: number;
  /** Takes over a ring in use. Default: a new one (split 0 and 0; packed slot 0 with both wrap counters 1). */
  readonly start?: QueuePosition;
  /**
   * What lies between the two indices of `start` and has to be done again: popped before anything else, in this order.
   * Default: nothing. Not with IN_ORDER, which can begin at the used index instead.
   */
  readonly takenChains?: readonly TakenChain[];
}

export interface DriverQueueOptions {
  readonly size: number;
  readonly dma: DmaMapper;
  readonly features: RingFeatures;
  /** Buffers in one request at most; sizes the indirect tables. Default 128. */
  readonly bufferCountMax?: number;
  /**
   * Alignment of a split ring's used ring behind its available ring, in bytes: 4096 for a device's legacy interface, which is told
   * only where the first area is (§2.7.2). Default 4.
   */
  readonly usedAlignSize?: number;
}
