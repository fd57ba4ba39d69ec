import { type DomId, type GrantRef, grantRef } from '@virtlab/abi/brands';
import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import type { GrantTable, GrantTableView } from './contract.ts';
import {
  ENTRY_WORDS,
  EXCHANGE_TRIES,
  FRAME_WORD,
  GTF_in_use,
  entryCount,
  firstEntryIndex,
  grantedDomain,
  grantedWord,
  ramFrameCount,
} from './entries.ts';
import { RefAllocator } from './ref-allocator.ts';

export interface GrantTableOptions {
  /** The granter itself. */
  readonly domain: DomId;
  /** Its table, of which all entries that are not reserved are zero. */
  readonly view: GrantTableView;
  /** First references that this table leaves alone (`GNTTAB_NR_RESERVED_ENTRIES`, xen/grant_table.h). */
  readonly reservedCount: number;
}

/** The granter's side of a version 1 table. A domain has one. Throws `RangeError` if the view or the count is impossible. */
export function createGrantTable(options: GrantTableOptions): GrantTable {
  return new GrantTableV1(options);
}

type LiveGrant = ReturnType<GrantTable['live']>[number];

/**
 * Misuse throws `RangeError`: a frame outside the RAM, a domain that cannot be, ending a reference that is not granted.
 * Ending what is already left to deferred reclaim is such a misuse: the reference belongs to the table then.
 */
class GrantTableV1 implements GrantTable {
  readonly capacity: number;
  readonly #words: Int32Array;
  readonly #frames: Uint32Array;
  readonly #firstEntry: number;
  readonly #frameCount: number;
  readonly #reservedCount: number;
  readonly #entryCount: number;
  readonly #refs: RefAllocator;
  /** By reference: 1 while it waits for its mapper. */
  readonly #isDeferred: Uint8Array;
  #deferredCount = 0;
  /** No reference from here on waits. */
  #deferredEnd = 0;

  constructor({ view, reservedCount }: GrantTableOptions) {
    const entries = entryCount(view);
    if (!Number.isInteger(reservedCount) || reservedCount < 0 || reservedCount > entries) {
      throw new RangeError(`${reservedCount} entries cannot be reserved of ${entries}`);
    }
    this.#firstEntry = firstEntryIndex(view);
    this.#words = view.table.i32;
    this.#frames = view.table.u32;
    this.#frameCount = ramFrameCount(view);
    this.#reservedCount = reservedCount;
    this.#entryCount = entries;
    this.#refs = new RefAllocator(reservedCount, entries);
    this.#isDeferred = new Uint8Array(entries);
    this.capacity = entries - reservedCount;
  }

  get freeCount(): number {
    return this.#refs.freeCount;
  }

  grantAccess(domain: DomId, frame: number, readonly: boolean): GrantRef | -1 {
    this.#requireGrantable(domain, frame, 1);
    const ref = this.#refs.take();
    if (ref < 0) return -1;
    this.#publish(ref, frame, grantedWord(domain, readonly));
    return ref as GrantRef;
  }

  grantRange(domain: DomId, firstFrame: number, count: number, readonly: boolean): GrantRef | -1 {
    this.#requireGrantable(domain, firstFrame, count);
    const first = count === 1 ? this.#refs.take() : this.#refs.takeRange(count);
    if (first < 0) return -1;
    const word = grantedWord(domain, readonly);
    for (let index = 0; index < count; index++) this.#publish(first + index, firstFrame + index, word);
    return first as GrantRef;
  }

  endAccess(ref: GrantRef): boolean {
    this.#requireGranted(ref);
    if (!this.#revoke(ref)) return false;
    this.#refs.release(ref);
    return true;
  }

  endRange(first: GrantRef, count: number): boolean {
    for (let ref = first as number; ref < first + count; ref++) this.#requireGranted(ref);
    let hasEnded = true;
    for (let ref = first as number; ref < first + count; ref++) {
      if (this.#revoke(ref)) this.#refs.release(ref);
      else {
        this.#defer(ref);
        hasEnded = false;
      }
    }
    return hasEnded;
  }

  reclaimDeferred(): number {
    const end = this.#deferredEnd;
    if (this.#deferredCount === 0) return 0;
    this.#deferredEnd = 0;
    for (let ref = this.#reservedCount; ref < end; ref++) {
      if (this.#isDeferred[ref] === 0) continue;
      if (this.#revoke(ref)) {
        this.#isDeferred[ref] = 0;
        this.#deferredCount -= 1;
        this.#refs.release(ref);
      } else this.#deferredEnd = ref + 1;
    }
    return this.#deferredCount;
  }

  isInUse(ref: GrantRef): boolean {
    if (!this.#isGranted(ref)) return false;
    return (Atomics.load(this.#words, this.#firstEntry + ref * ENTRY_WORDS) & GTF_in_use) !== 0;
  }

  live(): readonly LiveGrant[] {
    const grants: LiveGrant[] = [];
    for (let ref = this.#reservedCount; ref < this.#entryCount; ref++) {
      if (this.#refs.isFree(ref)) continue;
      const index = this.#firstEntry + ref * ENTRY_WORDS;
      grants.push({
        ref: grantRef(ref),
        domain: grantedDomain(Atomics.load(this.#words, index)),
        frame: this.#frames[index + FRAME_WORD]!,
        deferred: this.#isDeferred[ref] === 1,
      });
    }
    return grants;
  }

  /** The frame before the word that makes it valid (grant_table.h, "Introducing a valid entry"). */
  #publish(ref: number, frame: number, word: number): void {
    const index = this.#firstEntry + ref * ENTRY_WORDS;
    this.#frames[index + FRAME_WORD] = frame;
    Atomics.store(this.#words, index, word);
  }

  /** Invalidates an entry unless it is in use (grant_table.h, "Invalidating an unused GTF_permit_access entry"). */
  #revoke(ref: number): boolean {
    const index = this.#firstEntry + ref * ENTRY_WORDS;
    let word = Atomics.load(this.#words, index);
    for (let tries = 0; tries < EXCHANGE_TRIES; tries++) {
      if ((word & GTF_in_use) !== 0) return false;
      const found = Atomics.compareExchange(this.#words, index, word, 0);
      if (found === word) return true;
      word = found;
    }
    return false;
  }

  #defer(ref: number): void {
    this.#isDeferred[ref] = 1;
    this.#deferredCount += 1;
    if (ref >= this.#deferredEnd) this.#deferredEnd = ref + 1;
  }

  #isGranted(ref: number): boolean {
    return ref >= this.#reservedCount && ref < this.#entryCount && !this.#refs.isFree(ref);
  }

  #requireGranted(ref: number): void {
    if (this.#isGranted(ref) && this.#isDeferred[ref] === 0) return;
    throw new RangeError(`Grant reference ${ref} is not granted`);
  }

  #requireGrantable(domain: DomId, firstFrame: number, count: number): void {
    if (!(domain >= 0 && domain < DOMID_FIRST_RESERVED)) {
      throw new RangeError(`Domain ${domain} cannot be granted anything`);
    }
    if (!(count >= 1 && firstFrame >= 0 && firstFrame + count <= this.#frameCount)) {
      throw new RangeError(
        `Frames ${firstFrame} to ${firstFrame + count} are outside ${this.#frameCount} frames`,
      );
    }
  }
}
