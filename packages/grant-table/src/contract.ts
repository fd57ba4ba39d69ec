import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { GrantCopyList } from './grant-copy-list.ts';

/** A domain's grant table in shared memory, and the RAM its frames index. */
export interface GrantTableView {
  readonly table: MemoryRegion;
  /** Byte offset of version 1 entry 0 in `table`; page aligned. */
  readonly tableOffset: number;
  /** Pages of entries that there is room for. Without `control` all of them are in use. */
  readonly frameCount: number;
  readonly ram: MemoryRegion;
  /** What a table needs to be grown, or of version 2. Without it the table is of version 1 for good. */
  readonly control?: GrantControlPlaces | undefined;
}

/** Byte offsets in `GrantTableView.table`, page aligned; see `placeGrantControl`. */
export interface GrantControlPlaces {
  /** The version and size of the table, and its limits: written by the hypervisor, read by everybody. */
  readonly words: number;
  /** Version 2 entry 0; `frameCount` pages. */
  readonly entriesV2: number;
  /** Status word of version 2 entry 0 (`grant_status_t`); a u16 an entry. */
  readonly status: number;
  /** Who copies through another domain's transitive grant of an entry: a u16 an entry, see `TransitHold`. */
  readonly transit: number;
}

export type GrantVersion = 1 | 2;

/** Granter side: the domain's own table. Synchronous; no method allocates memory per grant. */
export interface GrantTable {
  /** Entries that can ever be granted (reserved ones excluded). */
  readonly capacity: number;
  readonly freeCount: number;
  /** Grants one frame; -1 when the table is full. */
  grantAccess(domain: DomId, frame: number, readonly: boolean): GrantRef | -1;
  /** Grants `count` frames from `firstFrame` under consecutive references; the first of them, or -1. */
  grantRange(domain: DomId, firstFrame: number, count: number, readonly: boolean): GrantRef | -1;
  /** Ends a grant. False when it is still in use: nothing changes, the reference stays granted. */
  endAccess(ref: GrantRef): boolean;
  /** All or, when any is in use, as many as can be; false if some remain (those go to deferred reclaim). */
  endRange(first: GrantRef, count: number): boolean;
  /** Tries again to end what was in use; answers how many are still waiting. */
  reclaimDeferred(): number;
  isInUse(ref: GrantRef): boolean;
  /** Live grants (deferred included), for leak checks. */
  live(): readonly {
    readonly ref: GrantRef;
    readonly domain: DomId;
    readonly frame: number;
    readonly deferred: boolean;
  }[];
}

/** What became of grants that were still in use when they were to end. */
export interface DeferralStatistics {
  /** Waiting now, and at most so far. */
  readonly waitingCount: number;
  readonly waitingCountMax: number;
  readonly deferredTotal: number;
  readonly reclaimedTotal: number;
  /** Attempts that found the entry still in use. */
  readonly retryTotal: number;
}

/** A table of either version. Made for one version: after `GNTTABOP_set_version` the domain makes a new one. */
export interface VersionedGrantTable extends GrantTable {
  readonly version: GrantVersion;
  /** Pages of entries in use. */
  readonly frameCount: number;
  /**
   * Version 2: grants `size` bytes at `offset` of a frame, for copies only. -1 when the table is full; throws `TypeError` on
   * a version 1 table, `RangeError` for bytes that are not inside the page.
   */
  grantSubPage(domain: DomId, frame: number, offset: number, size: number, readonly: boolean): GrantRef | -1;
  /**
   * Version 2: lets `domain` copy by what `from` granted to this domain under `fromRef`. -1 when the table is full; throws
   * `TypeError` on a version 1 table, `RangeError` when `from` is this domain.
   */
  grantTransitive(domain: DomId, from: DomId, fromRef: GrantRef, readonly: boolean): GrantRef | -1;
  /**
   * Ends a grant now (true), or leaves it to deferred reclaim and is rid of the reference. `onEnded` runs when the grant has
   * ended, so at once or from `reclaimDeferred`: then the page may be used again.
   */
  endOrDefer(ref: GrantRef, onEnded?: () => void): boolean;
  /** As `GrantTable.reclaimDeferred`, for the `limit` that wait longest. Also runs by itself before a table is full. */
  reclaimDeferred(limit?: number): number;
  readonly deferral: DeferralStatistics;
  /** The handler runs when a grant is deferred and none was before: to start retrying. */
  onDeferred(handler: (() => void) | undefined): void;
  /**
   * `GNTTABOP_swap_grant_ref`: exchanges two entries, reserved ones too. `GNTST_bad_gntref` beyond the table, `GNTST_eagain`
   * while either is in use. A mapping attempt meanwhile finds neither of them granted.
   */
  swap(a: GrantRef, b: GrantRef): number;
  /** Uses the frames that `GNTTABOP_setup_table` added since; answers `frameCount`. */
  grow(): number;
}

/** Mapper side: other domains' pages, reached only through what they granted to us. */
export interface GrantMapper {
  /**
   * Pins the entry (the documented compare-and-exchange on its flags) and remembers the mapping. On success the handle is
   * returned and `frame` holds the granter's frame number; otherwise a negative `GNTST_*` status. Never throws for what a
   * peer wrote, does not allocate per map.
   */
  map(domain: DomId, ref: GrantRef, writable: boolean): GrantHandle | number;
  readonly frame: number;
  /** Granter's RAM, or undefined when that domain is not connected or gone. */
  ram(domain: DomId): MemoryRegion | undefined;
  /** 0 or `GNTST_bad_handle`. The last unmap of an entry clears its reading/writing bits. */
  unmap(handle: GrantHandle): number;
  /** Live mappings, for leak checks. */
  live(): readonly {
    readonly handle: GrantHandle;
    readonly domain: DomId;
    readonly ref: GrantRef;
    readonly writable: boolean;
  }[];
}

/** A mapper that also copies, as `GNTTABOP_copy` does. */
export interface CopyingGrantMapper extends GrantMapper {
  /**
   * Runs the copies of a list in order, each with its `GNTST_*` in `list.status`; answers how many failed. Claims of a page
   * are kept from one copy to the next that needs the same. Allocates nothing that outlives a copy.
   */
  copy(list: GrantCopyList): number;
}

/** A grant operation that failed. */
export class GrantError extends Error {
  /** C spelling: `GNTST_bad_gntref`, ... */
  readonly code: string;
  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
    this.name = 'GrantError';
    this.code = code;
  }
}
