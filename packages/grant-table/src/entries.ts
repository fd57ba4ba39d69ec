import { type DomId, type GrantRef, domId } from '@virtlab/abi/brands';
import {
  GRANT_ENTRIES_PER_PAGE_V1,
  GRANT_ENTRY_V1,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_type_mask,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { DOMID_FIRST_RESERVED, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';

/**
 * Version 1 entries as 32-bit words: word 0 holds flags (low half) and domain id (high half) and is what both sides
 * compare and exchange; word 1 is the frame, valid while word 0 says so.
 */

/** 32-bit words of an entry. */
export const ENTRY_WORDS: number = GRANT_ENTRY_V1.size / 4;
export const FRAME_WORD: number = GRANT_ENTRY_V1.offset.frame / 4;
/** Where the domain id begins in word 0. */
export const DOMID_SHIFT: number = GRANT_ENTRY_V1.offset.domid * 8;
/** Flags that the mapper's side sets while it uses the entry. */
export const GTF_in_use: number = GTF_reading | GTF_writing;
/** Xen gives up on an entry whose word changed this often under its compare-and-exchange (`_set_status_v1`). */
export const EXCHANGE_TRIES = 5;

/** Word 0 of a granted entry. Domain ids are below 2^15, so it is never negative. */
export function grantedWord(domain: DomId, readonly: boolean): number {
  return GTF_permit_access | (readonly ? GTF_readonly : 0) | (domain << DOMID_SHIFT);
}

export function entryCount(view: GrantTableView): number {
  return view.frameCount * GRANT_ENTRIES_PER_PAGE_V1;
}

/** Index of word 0 of entry 0 in the 32-bit words of the table's region. Throws `RangeError` if the table lies outside. */
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

/**
 * Writes a granted entry into a table that nobody uses yet, as the builder of a domain does for the reserved references
 * (console and xenstore ring, xen/grant_table.h). Throws `RangeError` for a reference, domain or frame that cannot be.
 */
export function seedGrant(view: GrantTableView, ref: GrantRef, domain: DomId, frame: number): void {
  if (!(ref < entryCount(view)))
    throw new RangeError(`Grant reference ${ref} is beyond ${entryCount(view)} entries`);
  if (!(domain < DOMID_FIRST_RESERVED)) throw new RangeError(`Domain ${domain} cannot be granted anything`);
  if (!(frame >= 0 && frame < ramFrameCount(view))) throw new RangeError(`Frame ${frame} is outside the RAM`);
  const index = firstEntryIndex(view) + ref * ENTRY_WORDS;
  view.table.u32[index + FRAME_WORD] = frame;
  Atomics.store(view.table.i32, index, grantedWord(domain, false));
}

/** Whether any entry of the table, reserved ones included, grants something to the domain. Reads the whole table. */
export function isGrantedTo(view: GrantTableView, domain: DomId): boolean {
  const first = firstEntryIndex(view);
  for (let ref = 0; ref < entryCount(view); ref++) {
    const word = Atomics.load(view.table.i32, first + ref * ENTRY_WORDS);
    if ((word & GTF_type_mask) === GTF_permit_access && word >>> DOMID_SHIFT === domain) return true;
  }
  return false;
}

/**
 * Clears the in-use bits of every entry that is granted to a dead domain, as Xen unmaps what a dying domain had mapped.
 * For the hypervisor, after the domain can no longer map. Answers how many entries were in use. An entry that its owner
 * keeps changing is left as it is after `EXCHANGE_TRIES`.
 */
export function releasePinsOf(view: GrantTableView, dead: DomId): number {
  const words = view.table.i32;
  const first = firstEntryIndex(view);
  let released = 0;
  for (let ref = 0; ref < entryCount(view); ref++) {
    const index = first + ref * ENTRY_WORDS;
    let word = Atomics.load(words, index);
    for (let tries = 0; tries < EXCHANGE_TRIES && isPinnedBy(word, dead); tries++) {
      const found = Atomics.compareExchange(words, index, word, word & ~GTF_in_use);
      if (found === word) {
        released += 1;
        break;
      }
      word = found;
    }
  }
  return released;
}

function isPinnedBy(word: number, domain: DomId): boolean {
  return (word & GTF_in_use) !== 0 && word >>> DOMID_SHIFT === domain;
}

/** The domain that an entry's word 0 names. */
export function grantedDomain(word: number): DomId {
  return domId(word >>> DOMID_SHIFT);
}
