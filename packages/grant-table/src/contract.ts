import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';

/** A domain's grant table (v1 entries) in shared memory, and the RAM its frames index. */
export interface GrantTableView {
  readonly table: MemoryRegion;
  /** Byte offset of entry 0 in `table`; page aligned. */
  readonly tableOffset: number;
  /** Pages of entries. */
  readonly frameCount: number;
  readonly ram: MemoryRegion;
}

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
