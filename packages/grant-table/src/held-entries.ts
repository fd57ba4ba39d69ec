import type { DomId, GrantRef } from '@virtlab/abi/brands';
import { GTF_permit_access, GTF_transitive, GTF_type_mask } from '@virtlab/abi/grant-table';
import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';
import { entriesIn, stateOf, stateVersion } from './control-words.ts';
import {
  DOMID_SHIFT,
  ENTRY_WORDS,
  ENTRY_WORDS_V2,
  EXCHANGE_TRIES,
  FRAME_HIGH_WORD_V2,
  FRAME_WORD,
  FRAME_WORD_V2,
  GTF_in_transit,
  GTF_in_use,
  TRANS_DOMID_WORD_V2,
  BYTES_WORD_V2,
  firstEntryIndex,
  grantedWord,
  ramFrameCount,
} from './entries.ts';

/** Where the entries of a table are now. */
interface Geometry {
  readonly isV2: boolean;
  readonly entryCount: number;
  readonly first: number;
  readonly step: number;
}

function geometryOf(view: GrantTableView): Geometry {
  const state = stateOf(view);
  const { control } = view;
  const isV2 = control !== undefined && stateVersion(state) === 2;
  return {
    isV2,
    entryCount: entriesIn(state, view),
    first: isV2 ? control.entriesV2 / 4 : firstEntryIndex(view),
    step: isV2 ? ENTRY_WORDS_V2 : ENTRY_WORDS,
  };
}

/**
 * Writes a granted entry into a table that nobody uses yet, as the builder of a domain does for the reserved references
 * (console and xenstore ring, xen/grant_table.h). Throws `RangeError` for a reference, domain or frame that cannot be.
 */
export function seedGrant(view: GrantTableView, ref: GrantRef, domain: DomId, frame: number): void {
  const { isV2, entryCount, first, step } = geometryOf(view);
  if (!(ref < entryCount)) throw new RangeError(`Grant reference ${ref} is beyond ${entryCount} entries`);
  if (!(domain < DOMID_FIRST_RESERVED)) throw new RangeError(`Domain ${domain} cannot be granted anything`);
  if (!(frame >= 0 && frame < ramFrameCount(view))) throw new RangeError(`Frame ${frame} is outside the RAM`);
  const index = first + ref * step;
  if (isV2) {
    view.table.u32[index + BYTES_WORD_V2] = 0;
    view.table.u32[index + FRAME_HIGH_WORD_V2] = 0;
  }
  view.table.u32[index + (isV2 ? FRAME_WORD_V2 : FRAME_WORD)] = frame;
  Atomics.store(view.table.i32, index, grantedWord(domain, false));
}

/** Whether any entry of the table, reserved ones included, grants something to the domain. Reads the whole table. */
export function isGrantedTo(view: GrantTableView, domain: DomId): boolean {
  const { isV2, entryCount, first, step } = geometryOf(view);
  for (let ref = 0; ref < entryCount; ref++) {
    const word = Atomics.load(view.table.i32, first + ref * step);
    if (word >>> DOMID_SHIFT !== domain) continue;
    const type = word & GTF_type_mask;
    if (type === GTF_permit_access || (isV2 && type === GTF_transitive)) return true;
  }
  return false;
}

/** Whether any entry passes on to `domain` what `from` granted to the domain of the table. Reads the whole table. */
export function isPassedOn(view: GrantTableView, from: DomId, domain: DomId): boolean {
  const { isV2, entryCount, first, step } = geometryOf(view);
  if (!isV2) return false;
  const words = view.table.i32;
  for (let ref = 0; ref < entryCount; ref++) {
    const word = Atomics.load(words, first + ref * step);
    if ((word & GTF_type_mask) !== GTF_transitive || word >>> DOMID_SHIFT !== domain) continue;
    if ((words[first + ref * step + TRANS_DOMID_WORD_V2]! & 0xffff) === from) return true;
  }
  return false;
}

/**
 * Clears what a dead domain left in the table: the in-use bits of every entry that is granted to it, as Xen unmaps what a
 * dying domain had mapped, and the marks of copies that it was making by transitive grants. For the hypervisor, after the
 * domain can no longer map. Answers how many entries were in use. A version 1 entry that its owner keeps changing is left as
 * it is after `EXCHANGE_TRIES`.
 */
export function releasePinsOf(view: GrantTableView, dead: DomId): number {
  const geometry = geometryOf(view);
  let released = 0;
  for (let ref = 0; ref < geometry.entryCount; ref++) {
    if (geometry.isV2 ? releaseV2(view, geometry, ref, dead) : releaseV1(view, geometry, ref, dead))
      released += 1;
  }
  return released + releaseTransitOf(view, geometry, dead);
}

function releaseV1(view: GrantTableView, { first }: Geometry, ref: number, dead: DomId): boolean {
  const words = view.table.i32;
  const index = first + ref * ENTRY_WORDS;
  let word = Atomics.load(words, index);
  for (let tries = 0; tries < EXCHANGE_TRIES && isPinnedBy(word, dead); tries++) {
    const found = Atomics.compareExchange(words, index, word, word & ~GTF_in_use);
    if (found === word) return true;
    word = found;
  }
  return false;
}

function isPinnedBy(word: number, domain: DomId): boolean {
  return (word & GTF_in_use) !== 0 && word >>> DOMID_SHIFT === domain;
}

function releaseV2(view: GrantTableView, { first }: Geometry, ref: number, dead: DomId): boolean {
  const status = view.control!.status / 2 + ref;
  if ((Atomics.load(view.table.u16, status) & GTF_in_use) === 0) return false;
  if (Atomics.load(view.table.i32, first + ref * ENTRY_WORDS_V2) >>> DOMID_SHIFT !== dead) return false;
  Atomics.and(view.table.u16, status, ~GTF_in_use);
  return true;
}

function releaseTransitOf(view: GrantTableView, geometry: Geometry, dead: DomId): number {
  if (view.control === undefined) return 0;
  const holders = view.control.transit / 2;
  let released = 0;
  for (let ref = 0; ref < geometry.entryCount; ref++) {
    if (Atomics.load(view.table.u16, holders + ref) !== dead + 1) continue;
    if (geometry.isV2) Atomics.and(view.table.u16, view.control.status / 2 + ref, ~GTF_in_transit);
    else Atomics.and(view.table.i32, geometry.first + ref * ENTRY_WORDS, ~GTF_in_transit);
    Atomics.store(view.table.u16, holders + ref, 0);
    released += 1;
  }
  return released;
}
