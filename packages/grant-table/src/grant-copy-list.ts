import type { DomId, GrantRef } from '@virtlab/abi/brands';
import { GNTCOPY_dest_gref, GNTCOPY_source_gref } from '@virtlab/abi/grant-table';
import { DOMID_SELF } from '@virtlab/abi/xen';

/**
 * A batch of `struct gnttab_copy` (xen/grant_table.h) as one array a field, for `CopyingGrantMapper.copy`. The owner fills
 * it, runs it, reads `status`, and clears it for the next batch.
 */
export class GrantCopyList {
  readonly capacity: number;
  count = 0;
  /** `GNTCOPY_source_gref`, `GNTCOPY_dest_gref`. */
  readonly flags: Uint8Array;
  readonly sourceDomain: Uint16Array;
  /** A reference, or without `GNTCOPY_source_gref` a frame of the own RAM. */
  readonly source: Uint32Array;
  readonly sourceOffset: Uint32Array;
  readonly destDomain: Uint16Array;
  /** A reference, or without `GNTCOPY_dest_gref` a frame of the own RAM. */
  readonly dest: Uint32Array;
  readonly destOffset: Uint32Array;
  /** Bytes. */
  readonly size: Uint32Array;
  /** `GNTST_*`, once run. */
  readonly status: Int16Array;

  constructor(capacity: number) {
    if (!(Number.isInteger(capacity) && capacity >= 1)) throw new RangeError(`${capacity} copies are none`);
    this.capacity = capacity;
    this.flags = new Uint8Array(capacity);
    this.sourceDomain = new Uint16Array(capacity);
    this.source = new Uint32Array(capacity);
    this.sourceOffset = new Uint32Array(capacity);
    this.destDomain = new Uint16Array(capacity);
    this.dest = new Uint32Array(capacity);
    this.destOffset = new Uint32Array(capacity);
    this.size = new Uint32Array(capacity);
    this.status = new Int16Array(capacity);
  }

  clear(): void {
    this.count = 0;
  }

  /** Adds a copy in the terms of `struct gnttab_copy`; false when the list is full. */
  push(
    flags: number,
    sourceDomain: DomId,
    source: number,
    sourceOffset: number,
    destDomain: DomId,
    dest: number,
    destOffset: number,
    size: number,
  ): boolean {
    const at = this.count;
    if (at === this.capacity) return false;
    this.flags[at] = flags;
    this.sourceDomain[at] = sourceDomain;
    this.source[at] = source;
    this.sourceOffset[at] = sourceOffset;
    this.destDomain[at] = destDomain;
    this.dest[at] = dest;
    this.destOffset[at] = destOffset;
    this.size[at] = size;
    this.count = at + 1;
    return true;
  }

  /** Adds a copy from a grant of another domain into an own frame; false when the list is full. */
  pushIn(
    domain: DomId,
    ref: GrantRef,
    offset: number,
    frame: number,
    frameOffset: number,
    size: number,
  ): boolean {
    return this.push(GNTCOPY_source_gref, domain, ref, offset, DOMID_SELF, frame, frameOffset, size);
  }

  /** Adds a copy from an own frame into a grant of another domain; false when the list is full. */
  pushOut(
    frame: number,
    frameOffset: number,
    domain: DomId,
    ref: GrantRef,
    offset: number,
    size: number,
  ): boolean {
    return this.push(GNTCOPY_dest_gref, DOMID_SELF, frame, frameOffset, domain, ref, offset, size);
  }
}
