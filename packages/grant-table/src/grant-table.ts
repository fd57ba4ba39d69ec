import { type DomId, type GrantRef, grantRef } from '@virtlab/abi/brands';
import {
  GNTST_bad_gntref,
  GNTST_eagain,
  GNTST_okay,
  GRANT_ENTRIES_PER_PAGE_V1,
  GRANT_ENTRIES_PER_PAGE_V2,
  GTF_sub_page,
  GTF_transitive,
  GTF_type_mask,
} from '@virtlab/abi/grant-table';
import { DOMID_FIRST_RESERVED, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type {
  DeferralStatistics,
  GrantTable,
  GrantTableView,
  GrantVersion,
  VersionedGrantTable,
} from './contract.ts';
import { entriesIn, grantVersionOf, stateOf, stateVersion } from './control-words.ts';
import { DeferredGrants } from './deferred-grants.ts';
import { grantedDomain, grantedWord, ramFrameCount } from './entries.ts';
import { type OwnEntries, OwnEntriesV1, OwnEntriesV2 } from './own-entries.ts';
import { RefAllocator } from './ref-allocator.ts';

const PAGE_SIZE = XEN_PAGE_SIZE;
/** Bits of `length` in the word that describes a sub-page. */
const SIZE_SHIFT = 16;

export interface GrantTableOptions {
  /** The granter itself. */
  readonly domain: DomId;
  /** Its table, of which all entries that are not reserved are zero. */
  readonly view: GrantTableView;
  /** First references that this table leaves alone (`GNTTAB_NR_RESERVED_ENTRIES`, xen/grant_table.h). */
  readonly reservedCount: number;
}

/**
 * The granter's side of a table, of the version that the table has now. A domain has one. Throws `RangeError` if the view
 * or the count is impossible.
 */
export function createGrantTable(options: GrantTableOptions): VersionedGrantTable {
  return new OwnGrantTable(options);
}

type LiveGrant = ReturnType<GrantTable['live']>[number];

/**
 * Misuse throws `RangeError`: a frame outside the RAM, a domain that cannot be, ending a reference that is not granted.
 * Ending what is already left to deferred reclaim is such a misuse: the reference belongs to the table then.
 */
class OwnGrantTable implements VersionedGrantTable {
  readonly #domain: DomId;
  readonly #view: GrantTableView;
  readonly #entries: OwnEntries;
  readonly #ramFrameCount: number;
  readonly #reservedCount: number;
  readonly #refs: RefAllocator;
  readonly #deferred: DeferredGrants;
  readonly #end = (ref: number): boolean => this.#revoke(ref);
  #entryCount: number;

  constructor({ domain, view, reservedCount }: GrantTableOptions) {
    const version = grantVersionOf(view);
    const entries = entriesIn(stateOf(view), view);
    if (!Number.isInteger(reservedCount) || reservedCount < 0 || reservedCount > entries) {
      throw new RangeError(`${reservedCount} entries cannot be reserved of ${entries}`);
    }
    const perFrame = version === 2 ? GRANT_ENTRIES_PER_PAGE_V2 : GRANT_ENTRIES_PER_PAGE_V1;
    const entryCountMax = view.frameCount * perFrame;
    this.#domain = domain;
    this.#view = view;
    this.#entries = version === 2 ? new OwnEntriesV2(view) : new OwnEntriesV1(view);
    this.#ramFrameCount = ramFrameCount(view);
    this.#reservedCount = reservedCount;
    this.#entryCount = entries;
    this.#refs = new RefAllocator(reservedCount, entries, entryCountMax);
    this.#deferred = new DeferredGrants(entryCountMax);
  }

  get version(): GrantVersion {
    return this.#entries.version;
  }

  get frameCount(): number {
    return this.#entryCount / (this.version === 2 ? GRANT_ENTRIES_PER_PAGE_V2 : GRANT_ENTRIES_PER_PAGE_V1);
  }

  get capacity(): number {
    return this.#entryCount - this.#reservedCount;
  }

  get freeCount(): number {
    return this.#refs.freeCount;
  }

  get deferral(): DeferralStatistics {
    return this.#deferred.statistics;
  }

  grantAccess(domain: DomId, frame: number, readonly: boolean): GrantRef | -1 {
    this.#requireGrantable(domain, frame, 1);
    return this.#grant(frame, 0, grantedWord(domain, readonly));
  }

  grantRange(domain: DomId, firstFrame: number, count: number, readonly: boolean): GrantRef | -1 {
    this.#requireGrantable(domain, firstFrame, count);
    let first = this.#refs.takeRange(count);
    if (first < 0 && this.#makeRoom()) first = this.#refs.takeRange(count);
    if (first < 0) return -1;
    const word = grantedWord(domain, readonly);
    for (let index = 0; index < count; index++)
      this.#entries.publish(first + index, 0, firstFrame + index, word);
    return first as GrantRef;
  }

  grantSubPage(domain: DomId, frame: number, offset: number, size: number, readonly: boolean): GrantRef | -1 {
    this.#requireVersion2('A sub-page');
    this.#requireGrantable(domain, frame, 1);
    if (!(offset >= 0 && size >= 1 && offset + size <= PAGE_SIZE)) {
      throw new RangeError(`Bytes ${offset} to ${offset + size} are not inside a page`);
    }
    return this.#grant(frame, offset | (size << SIZE_SHIFT), grantedWord(domain, readonly) | GTF_sub_page);
  }

  grantTransitive(domain: DomId, from: DomId, fromRef: GrantRef, readonly: boolean): GrantRef | -1 {
    this.#requireVersion2('A transitive grant');
    this.#requireGrantable(domain, 0, 1);
    if (from === this.#domain) throw new RangeError(`Domain ${from} cannot pass on its own grant ${fromRef}`);
    return this.#grant(fromRef, from, grantedWord(domain, readonly) | GTF_transitive);
  }

  endAccess(ref: GrantRef): boolean {
    this.#requireGranted(ref);
    return this.#revoke(ref);
  }

  endRange(first: GrantRef, count: number): boolean {
    for (let ref = first as number; ref < first + count; ref++) this.#requireGranted(ref);
    let hasEnded = true;
    for (let ref = first as number; ref < first + count; ref++) {
      if (this.#revoke(ref)) continue;
      this.#defer(ref, undefined);
      hasEnded = false;
    }
    return hasEnded;
  }

  endOrDefer(ref: GrantRef, onEnded?: () => void): boolean {
    this.#requireGranted(ref);
    if (this.#revoke(ref)) {
      onEnded?.();
      return true;
    }
    this.#defer(ref, onEnded);
    return false;
  }

  reclaimDeferred(limit: number = this.#deferred.count): number {
    return this.#deferred.reclaim(limit, this.#end);
  }

  onDeferred(handler: (() => void) | undefined): void {
    this.#deferred.onDeferred(handler);
  }

  isInUse(ref: GrantRef): boolean {
    return this.#isGranted(ref) && this.#entries.isInUse(ref);
  }

  live(): readonly LiveGrant[] {
    const grants: LiveGrant[] = [];
    for (let ref = this.#reservedCount; ref < this.#entryCount; ref++) {
      if (this.#refs.isFree(ref)) continue;
      grants.push({
        ref: grantRef(ref),
        domain: grantedDomain(this.#entries.wordOf(ref)),
        frame: this.#entries.frameOf(ref),
        deferred: this.#deferred.has(ref),
      });
    }
    return grants;
  }

  /** The order of Xen's checks: both references, equality, then use (`swap_grant_ref`). */
  swap(a: GrantRef, b: GrantRef): number {
    if (!(a < this.#entryCount && b < this.#entryCount)) return GNTST_bad_gntref;
    if (a === b) return GNTST_okay;
    if (this.#deferred.has(a) || this.#deferred.has(b)) return GNTST_eagain;
    const [hadA, hadB] = [this.#isOccupied(a), this.#isOccupied(b)];
    const status = this.#entries.swap(a, b);
    if (status !== GNTST_okay || hadA === hadB) return status;
    this.#setOccupied(a, hadB);
    this.#setOccupied(b, hadA);
    return GNTST_okay;
  }

  grow(): number {
    const state = stateOf(this.#view);
    if (grantVersionOf(this.#view) !== this.version) {
      throw new TypeError(`The grant table is no longer of version ${this.version}`);
    }
    const entries = entriesIn(state, this.#view);
    if (entries > this.#entryCount) {
      this.#entryCount = entries;
      this.#refs.extend(entries);
    }
    return this.frameCount;
  }

  #grant(frame: number, bytes: number, word: number): GrantRef | -1 {
    let ref = this.#refs.take();
    if (ref < 0 && this.#makeRoom()) ref = this.#refs.take();
    if (ref < 0) return -1;
    this.#entries.publish(ref, bytes, frame, word);
    return ref as GrantRef;
  }

  /** The table is full: perhaps of what only waits to be seen as ended, or it has grown meanwhile. */
  #makeRoom(): boolean {
    const before = this.#refs.freeCount;
    if (this.#deferred.count > 0) this.reclaimDeferred();
    if (this.#refs.freeCount === before && stateVersion(stateOf(this.#view)) === this.version) this.grow();
    return this.#refs.freeCount > before;
  }

  #revoke(ref: number): boolean {
    if (!this.#entries.revoke(ref)) return false;
    this.#refs.release(ref);
    return true;
  }

  #defer(ref: number, onEnded: (() => void) | undefined): void {
    this.#entries.closeToOthers(ref);
    this.#deferred.add(ref, onEnded);
  }

  #isGranted(ref: number): boolean {
    return ref >= this.#reservedCount && ref < this.#entryCount && !this.#refs.isFree(ref);
  }

  /** Reserved entries are nobody's here: what they say decides. */
  #isOccupied(ref: number): boolean {
    if (ref >= this.#reservedCount) return !this.#refs.isFree(ref);
    return (this.#entries.wordOf(ref) & GTF_type_mask) !== 0;
  }

  #setOccupied(ref: number, isOccupied: boolean): void {
    if (ref < this.#reservedCount) return;
    if (isOccupied) this.#refs.takeAt(ref);
    else this.#refs.release(ref);
  }

  #requireGranted(ref: number): void {
    if (this.#isGranted(ref) && !this.#deferred.has(ref)) return;
    throw new RangeError(`Grant reference ${ref} is not granted`);
  }

  #requireVersion2(what: string): void {
    if (this.version !== 2) throw new TypeError(`${what} needs a version 2 table`);
  }

  #requireGrantable(domain: DomId, firstFrame: number, count: number): void {
    if (!(domain >= 0 && domain < DOMID_FIRST_RESERVED)) {
      throw new RangeError(`Domain ${domain} cannot be granted anything`);
    }
    if (!(count >= 1 && firstFrame >= 0 && firstFrame + count <= this.#ramFrameCount)) {
      throw new RangeError(
        `Frames ${firstFrame} to ${firstFrame + count} are outside ${this.#ramFrameCount} frames`,
      );
    }
  }
}
