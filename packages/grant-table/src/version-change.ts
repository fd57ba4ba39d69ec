import {
  GNTTAB_NR_RESERVED_ENTRIES,
  GTF_permit_access,
  GTF_sub_page,
  GTF_transitive,
  GTF_type_mask,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantControlPlaces, GrantTableView, GrantVersion } from './contract.ts';
import { statusFramesOf } from './control-words.ts';
import {
  ENTRY_WORDS,
  ENTRY_WORDS_V2,
  FRAME_HIGH_WORD_V2,
  FRAME_WORD,
  FRAME_WORD_V2,
  GTF_held,
  GTF_in_transit,
  GTF_in_use,
  firstEntryIndex,
} from './entries.ts';

/**
 * What `GNTTABOP_set_version` does to the entries (Xen `gnttab_set_version`). Each version has pages of its own here, where
 * Xen clears and reuses the same: a mapper in another process that is in the middle of an operation then never touches a word
 * that means something else by now.
 */

interface ReservedEntry {
  /** Flags (without in-use bits) and domain id. */
  readonly word: number;
  readonly inUse: number;
  readonly frame: number;
}

const NO_ENTRY: ReservedEntry = { word: 0, inUse: 0, frame: 0 };

/** Whether the mapper's side has any of the `bits` set for an entry. */
export function isHeldEntry(view: GrantTableView, isV2: boolean, ref: number, bits: number): boolean {
  const { table, control } = view;
  const flags = isV2
    ? Atomics.load(table.u16, control!.status / 2 + ref)
    : Atomics.load(table.i32, firstEntryIndex(view) + ref * ENTRY_WORDS);
  return (flags & bits) !== 0;
}

/** Why the reserved entries keep the table from becoming another version, if they do. */
export function versionObstacle(
  view: GrantTableView,
  version: GrantVersion,
): 'EAGAIN' | 'ERANGE' | undefined {
  const { table, control } = view;
  const isV2 = version === 1;
  let code: 'EAGAIN' | 'ERANGE' | undefined;
  for (let ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
    if (isHeldEntry(view, isV2, ref, GTF_in_transit)) return 'EAGAIN';
    if (!isV2) continue;
    const index = control!.entriesV2 / 4 + ref * ENTRY_WORDS_V2;
    const word = Atomics.load(table.i32, index);
    const type = word & GTF_type_mask;
    const isVersion2Only = type === GTF_transitive || (word & GTF_sub_page) !== 0;
    if (isVersion2Only && isHeldEntry(view, isV2, ref, GTF_held)) return 'EAGAIN';
    if (type === GTF_transitive) code = 'ERANGE';
    if (type === GTF_permit_access && table.u32[index + FRAME_HIGH_WORD_V2] !== 0) code = 'ERANGE';
  }
  return code;
}

/** Fills the entries of the other version; `publish` makes it the one in force. */
export function changeVersion(view: GrantTableView, version: GrantVersion, publish: () => void): void {
  const { control } = view;
  if (control === undefined) throw new TypeError('A table without control words has one version');
  const from = version === 2 ? 1 : 2;
  const reserved = Array.from({ length: GNTTAB_NR_RESERVED_ENTRIES }, (_, ref) =>
    takeReserved(view, from, ref),
  );
  clearEntries(view, control, version);
  for (const [ref, entry] of reserved.entries()) putReserved(view, version, ref, entry);
  publish();
  // A mapper that let go of a reserved entry since it was read did so in the old entry, or knows already.
  for (const [ref, { inUse }] of reserved.entries()) {
    const left = inUse & ~takeReserved(view, from, ref).inUse;
    if (left !== 0) clearInUse(view, version, ref, left);
  }
  clearEntries(view, control, from);
}

function takeReserved(view: GrantTableView, version: GrantVersion, ref: number): ReservedEntry {
  const { table, control } = view;
  if (version === 1) {
    const index = firstEntryIndex(view) + ref * ENTRY_WORDS;
    const word = Atomics.load(table.i32, index);
    return { word: word & ~GTF_in_use, inUse: word & GTF_in_use, frame: table.u32[index + FRAME_WORD]! };
  }
  const index = control!.entriesV2 / 4 + ref * ENTRY_WORDS_V2;
  const word = Atomics.load(table.i32, index);
  if ((word & GTF_type_mask) !== GTF_permit_access) return NO_ENTRY;
  const inUse = Atomics.load(table.u16, control!.status / 2 + ref) & GTF_in_use;
  return { word: word & ~GTF_in_use, inUse, frame: table.u32[index + FRAME_WORD_V2]! };
}

function putReserved(view: GrantTableView, version: GrantVersion, ref: number, entry: ReservedEntry): void {
  const { table, control } = view;
  if (version === 1) {
    const index = firstEntryIndex(view) + ref * ENTRY_WORDS;
    table.u32[index + FRAME_WORD] = entry.frame;
    Atomics.store(table.i32, index, entry.word | entry.inUse);
    return;
  }
  const index = control!.entriesV2 / 4 + ref * ENTRY_WORDS_V2;
  Atomics.store(table.u16, control!.status / 2 + ref, entry.inUse);
  table.u32[index + FRAME_WORD_V2] = entry.frame;
  Atomics.store(table.i32, index, entry.word);
}

function clearInUse(view: GrantTableView, version: GrantVersion, ref: number, bits: number): void {
  const { table, control } = view;
  if (version === 1) Atomics.and(table.i32, firstEntryIndex(view) + ref * ENTRY_WORDS, ~bits);
  else Atomics.and(table.u16, control!.status / 2 + ref, ~bits);
}

function clearEntries(view: GrantTableView, control: GrantControlPlaces, version: GrantVersion): void {
  const { u8 } = view.table;
  const clear = (offset: number, frames: number): void => {
    u8.fill(0, offset, offset + frames * XEN_PAGE_SIZE);
  };
  if (version === 1) clear(view.tableOffset, view.frameCount);
  else {
    clear(control.entriesV2, view.frameCount);
    clear(control.status, statusFramesOf(view.frameCount));
  }
}
