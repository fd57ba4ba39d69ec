import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';
import type { GrantMapper } from './contract.ts';
import { SlotLists } from './slot-lists.ts';

/** xen-blkback's defaults: `max_persistent_grants`, `persistent_grant_unused_seconds`, `LRU_PERCENT_CLEAN`. */
const COUNT_MAX = 1056;
const UNUSED_MS = 60_000;
const PURGE_PERCENT = 5;

const NO_SLOT = -1;

export interface PersistentGrantsOptions {
  readonly mapper: GrantMapper;
  /** Whose grants they are. */
  readonly domain: DomId;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Mappings that are kept; more are possible but end with their use. Default 1056. */
  readonly countMax?: number;
  /** A mapping that nobody used for so long is ended by `purge`. Default 60000; 0 is never. */
  readonly unusedMs?: number;
  /** Of `countMax`, what `purge` frees beside once the bound was reached. Default 5. */
  readonly purgePercent?: number;
}

export interface PersistentGrantsStatistics {
  /** Mapped now, and of those in use. */
  readonly mapCount: number;
  readonly inUseCount: number;
  readonly mapCountMax: number;
  /** Found mapped; had to be mapped; could not be. */
  readonly hitTotal: number;
  readonly missTotal: number;
  readonly failedTotal: number;
  /** Ended to make room; by `purge`; because no more could be kept. */
  readonly evictedTotal: number;
  readonly purgedTotal: number;
  readonly overflowTotal: number;
}

/**
 * Mappings that a backend keeps for the next request that names the same reference (blkif.h, `feature-persistent`): up to a
 * bound, the one that was not used for longest goes first. One for each connection to a frontend. While a reference is kept
 * its granter cannot end it. Allocates only to grow.
 */
export class PersistentGrants {
  readonly countMax: number;
  readonly #mapper: GrantMapper;
  readonly #domain: DomId;
  readonly #now: () => number;
  readonly #unusedMs: number;
  readonly #purgeCount: number;
  readonly #slots = new SlotLists();
  #slotOfRef = new Int32Array(0);
  #isKeeping = true;
  #wasFull = false;
  #mapCount = 0;
  #mapCountMax = 0;
  #inUseCount = 0;
  #hitTotal = 0;
  #missTotal = 0;
  #failedTotal = 0;
  #evictedTotal = 0;
  #purgedTotal = 0;
  #overflowTotal = 0;

  constructor(options: PersistentGrantsOptions) {
    const { mapper, domain, now, countMax = COUNT_MAX } = options;
    const { unusedMs = UNUSED_MS, purgePercent = PURGE_PERCENT } = options;
    if (!(Number.isInteger(countMax) && countMax >= 1)) throw new RangeError(`${countMax} mappings are none`);
    this.countMax = countMax;
    this.#mapper = mapper;
    this.#domain = domain;
    this.#now = now;
    this.#unusedMs = unusedMs;
    this.#purgeCount = Math.floor((countMax * purgePercent) / 100);
  }

  /** A slot for the mapped page, until `release`; or the negative `GNTST_*` with which it could not be mapped. */
  acquire(ref: GrantRef, writable: boolean): number {
    const slot = ref < this.#slotOfRef.length ? this.#slotOfRef[ref]! : NO_SLOT;
    if (slot === NO_SLOT) return this.#map(ref, writable);
    const { useCount } = this.#slots;
    if (writable && this.#slots.isWritable[slot] === 0) {
      const status = this.#makeWritable(slot, ref);
      if (status < 0) return status;
    }
    if (useCount[slot] === 0) {
      this.#slots.unlink(slot);
      this.#inUseCount += 1;
    }
    useCount[slot]! += 1;
    this.#hitTotal += 1;
    return slot;
  }

  /** The granter's frame behind an acquired slot. */
  frameOf(slot: number): number {
    return this.#slots.frame[slot]!;
  }

  /** Ends one use; the mapping stays if it may. Throws `RangeError` for a slot that is not acquired. */
  release(slot: number): void {
    const { useCount } = this.#slots;
    if (!((useCount[slot] ?? 0) > 0)) throw new RangeError(`Slot ${slot} is not in use`);
    useCount[slot]! -= 1;
    if (useCount[slot]! > 0) return;
    this.#inUseCount -= 1;
    if (this.#isKeeping && this.#mapCount <= this.countMax) {
      this.#slots.append(slot, this.#now());
      return;
    }
    if (this.#isKeeping) this.#overflowTotal += 1;
    this.#unmap(slot);
  }

  /**
   * For a timer (xen-blkback: every 100 ms): ends what nobody used for long, and some more when the bound was reached since
   * the last time. Answers how many.
   */
  purge(): number {
    const before = this.#mapCount;
    const unusedSince = this.#now() - this.#unusedMs;
    let spare = this.#wasFull ? this.#purgeCount : 0;
    this.#wasFull = false;
    for (let slot = this.#slots.oldest; slot !== NO_SLOT; slot = this.#slots.oldest) {
      const isUnused = this.#unusedMs > 0 && this.#slots.usedAt[slot]! <= unusedSince;
      if (!isUnused && spare === 0) break;
      if (spare > 0) spare -= 1;
      this.#slots.unlink(slot);
      this.#unmap(slot);
    }
    const purgedCount = before - this.#mapCount;
    this.#purgedTotal += purgedCount;
    return purgedCount;
  }

  /**
   * The feature is gone, or the frontend is: ends what is not in use now and the rest when it is released, and keeps nothing
   * more. Answers how many are still in use.
   */
  stopKeeping(): number {
    this.#isKeeping = false;
    for (let slot = this.#slots.oldest; slot !== NO_SLOT; slot = this.#slots.oldest) {
      this.#slots.unlink(slot);
      this.#unmap(slot);
    }
    return this.#inUseCount;
  }

  get statistics(): PersistentGrantsStatistics {
    return {
      mapCount: this.#mapCount,
      inUseCount: this.#inUseCount,
      mapCountMax: this.#mapCountMax,
      hitTotal: this.#hitTotal,
      missTotal: this.#missTotal,
      failedTotal: this.#failedTotal,
      evictedTotal: this.#evictedTotal,
      purgedTotal: this.#purgedTotal,
      overflowTotal: this.#overflowTotal,
    };
  }

  #map(ref: GrantRef, writable: boolean): number {
    if (this.#mapCount >= this.countMax) this.#evict();
    const handle = this.#mapper.map(this.#domain, ref, writable);
    if (handle < 0) {
      this.#failedTotal += 1;
      return handle;
    }
    // Only a reference that could be mapped makes the table grow: not what a frontend claims.
    if (ref >= this.#slotOfRef.length) this.#grow(ref);
    const slot = this.#slots.take(ref, handle, this.#mapper.frame, writable);
    this.#slotOfRef[ref] = slot;
    this.#mapCount += 1;
    this.#inUseCount += 1;
    if (this.#mapCount > this.#mapCountMax) this.#mapCountMax = this.#mapCount;
    this.#missTotal += 1;
    return slot;
  }

  /** The mapping for reading goes when the one for writing is there: the entry stays pinned, so it is the same page. */
  #makeWritable(slot: number, ref: GrantRef): number {
    const handle = this.#mapper.map(this.#domain, ref, true);
    if (handle < 0) {
      this.#failedTotal += 1;
      return handle;
    }
    this.#mapper.unmap(this.#slots.handle[slot] as GrantHandle);
    this.#slots.handle[slot] = handle;
    this.#slots.isWritable[slot] = 1;
    return handle;
  }

  #evict(): void {
    this.#wasFull = true;
    const slot = this.#slots.oldest;
    if (slot === NO_SLOT) return;
    this.#slots.unlink(slot);
    this.#unmap(slot);
    this.#evictedTotal += 1;
  }

  #unmap(slot: number): void {
    this.#slotOfRef[this.#slots.ref[slot]!] = NO_SLOT;
    this.#mapper.unmap(this.#slots.handle[slot] as GrantHandle);
    this.#slots.give(slot);
    this.#mapCount -= 1;
  }

  #grow(ref: number): void {
    const grown = new Int32Array(Math.max(ref + 1, this.#slotOfRef.length * 2, 64)).fill(NO_SLOT);
    grown.set(this.#slotOfRef);
    this.#slotOfRef = grown;
  }
}
