import {
  GRANT_ENTRIES_PER_PAGE_V1,
  GRANT_ENTRIES_PER_PAGE_V2,
  GRANT_STATUSES_PER_PAGE,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantControlPlaces, GrantTableView, GrantVersion } from './contract.ts';

/**
 * The control words of a table: what Xen keeps in its own `struct grant_table` and every mapper here has to see. Word 0 is
 * the state: version in bits 0 to 7 (0 while it changes), frames in use from bit 8, and from bit 20 a count of the changes of
 * version, so that a table that went to version 2 and back is another state.
 */

const VERSION_MASK = 0xff;
const FRAMES_SHIFT = 8;
const FRAMES_MASK = 0xfff;
const EPOCH_SHIFT = 20;
const EPOCH_UNIT: number = 1 << EPOCH_SHIFT;

/** Indexes of the control words. */
export const STATE_WORD = 0;
export const FRAMES_MAX_WORD = 1;
export const MAPTRACK_FRAMES_MAX_WORD = 2;
export const VERSION_MAX_WORD = 3;

/** Version in a state while it changes. */
export const VERSION_CHANGING = 0;

export function tableState(version: number, frameCount: number, epoch: number): number {
  return version | (frameCount << FRAMES_SHIFT) | (epoch << EPOCH_SHIFT);
}

export function stateVersion(state: number): number {
  return state & VERSION_MASK;
}

export function stateFrames(state: number): number {
  return (state >>> FRAMES_SHIFT) & FRAMES_MASK;
}

/** The state with another version, and counted as a change. */
export function nextState(state: number, version: number): number {
  return ((state & ~VERSION_MASK) | version) + EPOCH_UNIT;
}

/** Whether the second state differs from the first by its frames at most: no entry moved. */
export function isSameLayout(before: number, after: number): boolean {
  return ((before ^ after) & ~(FRAMES_MASK << FRAMES_SHIFT)) === 0;
}

/** Where the state of a table is read: an array and an index. A table without control words has one that never changes. */
export function stateWords(view: GrantTableView): { readonly words: Int32Array; readonly index: number } {
  if (view.control === undefined)
    return { words: Int32Array.of(tableState(1, view.frameCount, 0)), index: 0 };
  return { words: view.table.i32, index: view.control.words / 4 + STATE_WORD };
}

export function stateOf(view: GrantTableView): number {
  const { words, index } = stateWords(view);
  return Atomics.load(words, index);
}

/** Entries of a table in a state; never more than there is room for, whatever the state word says. */
export function entriesIn(state: number, view: GrantTableView): number {
  const frames = Math.min(stateFrames(state), view.frameCount);
  return frames * (stateVersion(state) === 2 ? GRANT_ENTRIES_PER_PAGE_V2 : GRANT_ENTRIES_PER_PAGE_V1);
}

/** Version of a table; throws `TypeError` while it changes: its own domain is then in the hypercall. */
export function grantVersionOf(view: GrantTableView): GrantVersion {
  const version = stateVersion(stateOf(view));
  if (version === 1 || version === 2) return version;
  throw new TypeError(`The version of the grant table is ${version}`);
}

/** Mappings that the domain of the table may hold, by its `max_maptrack_frames`; undefined without control words. */
export function maptrackFramesMax(view: GrantTableView): number | undefined {
  return view.control && view.table.i32[view.control.words / 4 + MAPTRACK_FRAMES_MAX_WORD];
}

/** Status frames of a version 2 table of so many frames (Xen: `grant_to_status_frames`). */
export function statusFramesOf(frameCount: number): number {
  return Math.ceil((frameCount * GRANT_ENTRIES_PER_PAGE_V2) / GRANT_STATUSES_PER_PAGE);
}

/** Lays out what belongs to a table of at most `frameCount` frames from a page aligned offset on; `size` in bytes. */
export function placeGrantControl(
  offset: number,
  frameCount: number,
): { readonly places: GrantControlPlaces; readonly size: number } {
  const entriesV2 = offset + XEN_PAGE_SIZE;
  const status = entriesV2 + frameCount * XEN_PAGE_SIZE;
  const transit = status + statusFramesOf(frameCount) * XEN_PAGE_SIZE;
  const transitSize = frameCount * GRANT_ENTRIES_PER_PAGE_V1 * Uint16Array.BYTES_PER_ELEMENT;
  const end = transit + Math.ceil(transitSize / XEN_PAGE_SIZE) * XEN_PAGE_SIZE;
  return { places: { words: offset, entriesV2, status, transit }, size: end - offset };
}
