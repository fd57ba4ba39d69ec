import { type DomId, domId } from '@virtlab/abi/brands';
import {
  GRANT_ENTRIES_PER_PAGE_V1,
  GRANT_ENTRY_V1,
  GRANT_ENTRY_V2_FULL_PAGE,
  GRANT_ENTRY_V2_SUB_PAGE,
  GRANT_ENTRY_V2_TRANSITIVE,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';

/**
 * Entries as 32-bit words. Word 0 of either version holds flags (low half) and domain id (high half). In version 1 it is what
 * both sides compare and exchange, and word 1 is the frame, valid while word 0 says so. In version 2 the granter alone writes
 * the entry, and the mapper's side the status word, which is elsewhere.
 */

/** 32-bit words of a version 1 entry. */
export const ENTRY_WORDS: number = GRANT_ENTRY_V1.size / 4;
export const FRAME_WORD: number = GRANT_ENTRY_V1.offset.frame / 4;
/** 32-bit words of a version 2 entry. */
export const ENTRY_WORDS_V2: number = GRANT_ENTRY_V2_FULL_PAGE.size / 4;
export const FRAME_WORD_V2: number = GRANT_ENTRY_V2_FULL_PAGE.offset.frame / 4;
/** The upper half of the 64-bit frame number. */
export const FRAME_HIGH_WORD_V2: number = FRAME_WORD_V2 + 1;
/** Version 2, sub-page: `page_off` in the low half, `length` in the high half. */
export const BYTES_WORD_V2: number = GRANT_ENTRY_V2_SUB_PAGE.offset.page_off / 4;
/** Version 2, transitive: `trans_domid` in the low half. */
export const TRANS_DOMID_WORD_V2: number = GRANT_ENTRY_V2_TRANSITIVE.offset.trans_domid / 4;
export const TRANS_REF_WORD_V2: number = GRANT_ENTRY_V2_TRANSITIVE.offset.gref / 4;

/** Where the domain id begins in word 0. */
export const DOMID_SHIFT: number = GRANT_ENTRY_V1.offset.domid * 8;
export const FLAGS_MASK = 0xffff;
/** Flags that the mapper's side sets while it uses the entry. */
export const GTF_in_use: number = GTF_reading | GTF_writing;
/**
 * Ours, in a bit that Xen does not use, of the flags (version 1) or of the status (version 2): somebody copies from the entry
 * by a transitive grant of the domain that it is granted to. That domain may use the entry at the same time, and cannot see
 * the other's count, so each has a bit of its own.
 */
export const GTF_in_transit = 0x8000;
/** An entry with any of these cannot be ended. */
export const GTF_held: number = GTF_in_use | GTF_in_transit;
/** Xen gives up on an entry whose word changed this often under its compare-and-exchange (`_set_status_v1`). */
export const EXCHANGE_TRIES = 5;

/** Word 0 of a granted entry. Domain ids are below 2^15, so it is never negative. */
export function grantedWord(domain: DomId, readonly: boolean): number {
  return GTF_permit_access | (readonly ? GTF_readonly : 0) | (domain << DOMID_SHIFT);
}

/** The domain that an entry's word 0 names. */
export function grantedDomain(word: number): DomId {
  return domId(word >>> DOMID_SHIFT);
}

/** Version 1 entries that there is room for. */
export function entryCount(view: GrantTableView): number {
  return view.frameCount * GRANT_ENTRIES_PER_PAGE_V1;
}

/**
 * Index of word 0 of version 1 entry 0 in the 32-bit words of the table's region. Throws `RangeError` if the table lies
 * outside.
 */
export function firstEntryIndex(view: GrantTableView): number {
  const { table, tableOffset, frameCount } = view;
  if (tableOffset % GRANT_ENTRY_V1.size !== 0 || tableOffset + frameCount * XEN_PAGE_SIZE > table.size) {
    throw new RangeError(
      `Grant table of ${frameCount} frames at ${tableOffset} is outside ${table.size} bytes`,
    );
  }
  return tableOffset / 4;
}

/** Frames of the RAM that references may name. */
export function ramFrameCount(view: GrantTableView): number {
  return Math.floor(view.ram.size / XEN_PAGE_SIZE);
}
