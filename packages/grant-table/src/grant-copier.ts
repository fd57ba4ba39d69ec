import type { DomId } from '@virtlab/abi/brands';
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTST_bad_copy_arg,
  GNTST_general_error,
  GNTST_okay,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { CopyBuffer, type CopyPeers } from './copy-buffer.ts';
import type { GrantCopyList } from './grant-copy-list.ts';

const PAGE_SIZE = XEN_PAGE_SIZE;
const SOURCE_REF = GNTCOPY_source_gref;
const DEST_REF = GNTCOPY_dest_gref;
/** Longer copies go through a short-lived view and the engine's memmove; shorter ones byte by byte. */
const VIEW_COPY_SIZE_MIN = 64;

/** `GNTTABOP_copy` (Xen `gnttab_copy`): every copy checked and made on its own, pages claimed once for a run of copies. */
export class GrantCopier {
  readonly #source: CopyBuffer;
  readonly #dest: CopyBuffer;

  constructor(peers: CopyPeers) {
    this.#source = new CopyBuffer(peers, false);
    this.#dest = new CopyBuffer(peers, true);
  }

  run(list: GrantCopyList): number {
    let failedCount = 0;
    for (let at = 0; at < list.count; at++) {
      const status = this.#one(list, at);
      list.status[at] = status;
      if (status === GNTST_okay) continue;
      failedCount += 1;
      this.#release();
    }
    this.#release();
    return failedCount;
  }

  #release(): void {
    this.#source.release();
    this.#dest.release();
  }

  /** The order of Xen's checks: size 0, both domains, both claims, the page, what is granted of it. */
  #one(list: GrantCopyList, at: number): number {
    const size = list.size[at]!;
    if (size === 0) return GNTST_okay;
    const flags = list.flags[at]!;
    const isSourceRef = (flags & SOURCE_REF) !== 0;
    const isDestRef = (flags & DEST_REF) !== 0;
    const sourceDomain = list.sourceDomain[at] as DomId;
    const destDomain = list.destDomain[at] as DomId;
    const source = this.#source;
    const dest = this.#dest;
    let status = source.checkDomain(sourceDomain, isSourceRef);
    if (status === GNTST_okay) status = dest.checkDomain(destDomain, isDestRef);
    if (status === GNTST_okay) status = source.claim(sourceDomain, isSourceRef, list.source[at]!);
    if (status === GNTST_okay) status = dest.claim(destDomain, isDestRef, list.dest[at]!);
    if (status !== GNTST_okay) return status;
    const from = list.sourceOffset[at]!;
    const to = list.destOffset[at]!;
    if (from + size > PAGE_SIZE || to + size > PAGE_SIZE) return GNTST_bad_copy_arg;
    if (!isInside(source, from, size) || !isInside(dest, to, size)) return GNTST_general_error;
    move(source.u8!, source.base + from, dest.u8!, dest.base + to, size);
    return GNTST_okay;
  }
}

function isInside(buffer: CopyBuffer, offset: number, size: number): boolean {
  return offset >= buffer.start && offset + size <= buffer.start + buffer.size;
}

/** Source and destination may overlap. */
function move(source: Uint8Array, from: number, dest: Uint8Array, to: number, size: number): void {
  if (source === dest) dest.copyWithin(to, from, from + size);
  else if (size >= VIEW_COPY_SIZE_MIN) dest.set(source.subarray(from, from + size), to);
  else for (let index = 0; index < size; index++) dest[to + index] = source[from + index]!;
}
