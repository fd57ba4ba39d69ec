import type { DomId } from '@virtlab/abi/brands';
import {
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_okay,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_type_mask,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import type { GrantTableView } from './contract.ts';
import {
  DOMID_SHIFT,
  ENTRY_WORDS,
  EXCHANGE_TRIES,
  FRAME_WORD,
  GTF_in_use,
  entryCount,
  firstEntryIndex,
  ramFrameCount,
} from './entries.ts';

/** Xen counts pins in eight bits and refuses the one that would set the highest (`GNTPIN_incr2oflow_mask`). */
const PIN_COUNT_MAX = 128;

/** What must be as expected before the first pin: the type, no sub-page, the domain. */
const CHECKED: number = GTF_type_mask | GTF_sub_page | (0xffff << DOMID_SHIFT);

/**
 * What one mapper holds of one granter's table: for each entry how often it is mapped, and the frame it led to when it
 * was first pinned. Everything the granter can write is read once, into here.
 */
export class PeerPins {
  readonly domain: DomId;
  readonly view: GrantTableView;
  readonly #mapper: DomId;
  readonly #words: Int32Array;
  readonly #entryFrames: Uint32Array;
  readonly #firstEntry: number;
  readonly #entryCount: number;
  readonly #frameCount: number;
  readonly #readers: Uint8Array;
  readonly #writers: Uint8Array;
  readonly #frames: Uint32Array;
  /** Mappings through this record. */
  mapCount = 0;

  constructor(mapper: DomId, domain: DomId, view: GrantTableView) {
    const entries = entryCount(view);
    this.domain = domain;
    this.view = view;
    this.#mapper = mapper;
    this.#firstEntry = firstEntryIndex(view);
    this.#words = view.table.i32;
    this.#entryFrames = view.table.u32;
    this.#entryCount = entries;
    this.#frameCount = ramFrameCount(view);
    this.#readers = new Uint8Array(entries);
    this.#writers = new Uint8Array(entries);
    this.#frames = new Uint32Array(entries);
  }

  frameOf(ref: number): number {
    return this.#frames[ref]!;
  }

  /** One more mapping of an entry: 0 or the negative `GNTST_*` that `map_grant_ref` answers with (Xen grant_table.c). */
  pin(ref: number, writable: boolean): number {
    if (!(ref >= 0 && ref < this.#entryCount)) return GNTST_bad_gntref;
    const counts = writable ? this.#writers : this.#readers;
    if (counts[ref]! >= PIN_COUNT_MAX) return GNTST_general_error;
    const isPinned = (this.#readers[ref]! | this.#writers[ref]!) !== 0;
    if (!isPinned || (writable && this.#writers[ref] === 0)) {
      const status = this.#setInUse(ref, writable, isPinned);
      if (status !== GNTST_okay) return status;
    }
    if (!isPinned) {
      const frame = this.#entryFrames[this.#firstEntry + ref * ENTRY_WORDS + FRAME_WORD]!;
      if (frame >= this.#frameCount) {
        this.#clearInUse(ref, GTF_in_use);
        return GNTST_bad_page;
      }
      this.#frames[ref] = frame;
    }
    counts[ref]! += 1;
    this.mapCount += 1;
    return GNTST_okay;
  }

  /** One mapping less; with `isConnected` false the granter's table is not touched. */
  unpin(ref: number, writable: boolean, isConnected: boolean): void {
    const counts = writable ? this.#writers : this.#readers;
    counts[ref]! -= 1;
    this.mapCount -= 1;
    if (!isConnected) return;
    let clear = 0;
    if ((this.#readers[ref]! | this.#writers[ref]!) === 0) clear = GTF_reading;
    if (writable && this.#writers[ref] === 0) clear |= GTF_writing;
    if (clear !== 0) this.#clearInUse(ref, clear);
  }

  /** Xen's `_set_status_v1`: type and domain are checked for the first pin, the write permission for every new one. */
  #setInUse(ref: number, writable: boolean, isPinned: boolean): number {
    const index = this.#firstEntry + ref * ENTRY_WORDS;
    const expected = GTF_permit_access | (this.#mapper << DOMID_SHIFT);
    const use = writable ? GTF_in_use : GTF_reading;
    let word = Atomics.load(this.#words, index);
    for (let tries = 0; tries < EXCHANGE_TRIES; tries++) {
      if (!isPinned && (word & CHECKED) !== expected) return GNTST_general_error;
      if (writable && (word & GTF_readonly) !== 0) return GNTST_general_error;
      const found = Atomics.compareExchange(this.#words, index, word, word | use);
      if (found === word) return GNTST_okay;
      word = found;
    }
    return GNTST_general_error;
  }

  #clearInUse(ref: number, flags: number): void {
    Atomics.and(this.#words, this.#firstEntry + ref * ENTRY_WORDS, ~flags);
  }
}
