import type { DomId } from '@virtlab/abi/brands';
import {
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_okay,
  GNTTAB_NR_RESERVED_ENTRIES,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_transitive,
  GTF_type_mask,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';
import { entriesIn, isSameLayout, stateVersion, stateWords } from './control-words.ts';
import {
  BYTES_WORD_V2,
  DOMID_SHIFT,
  ENTRY_WORDS,
  ENTRY_WORDS_V2,
  EXCHANGE_TRIES,
  FRAME_HIGH_WORD_V2,
  FRAME_WORD,
  FRAME_WORD_V2,
  GTF_in_use,
  TRANS_DOMID_WORD_V2,
  TRANS_REF_WORD_V2,
  firstEntryIndex,
  ramFrameCount,
} from './entries.ts';

const RESERVED_COUNT = GNTTAB_NR_RESERVED_ENTRIES;
/** Xen counts pins in eight bits and refuses the one that would set the highest (`GNTPIN_incr2oflow_mask`). */
const PIN_COUNT_MAX = 128;

/** What must be as expected before the first pin: the type, the domain, and for a mapping that it is no sub-page. */
const CHECKED_FOR_COPY: number = GTF_type_mask | (0xffff << DOMID_SHIFT);
const CHECKED_FOR_MAP: number = CHECKED_FOR_COPY | GTF_sub_page;

/** Bytes of a page that a pin opens, `start | size << 16`. */
const WHOLE_PAGE: number = XEN_PAGE_SIZE << 16;
/** Of an entry pinned for a copy that passes through it: nothing of the granter's own. */
const PASSED_ON = 0;

/**
 * What one mapper holds of one granter's table: for each entry how often it is pinned, and what it led to when it was first
 * pinned. Everything the granter can write is read once, into here.
 */
export class PeerPins {
  readonly domain: DomId;
  readonly view: GrantTableView;
  readonly #mapper: DomId;
  readonly #words: Int32Array;
  readonly #entryWords: Uint32Array;
  readonly #statuses: Uint16Array;
  readonly #stateWords: Int32Array;
  readonly #stateIndex: number;
  readonly #frameCount: number;
  /** The state of the table that all of the following is of. */
  #state = 0;
  #isV2 = false;
  #firstEntry = 0;
  #firstStatus = 0;
  #entryCount = 0;
  #readers = new Uint8Array(0);
  #writers = new Uint8Array(0);
  #frames = new Uint32Array(0);
  /** Version 2: `start | size << 16` by entry. */
  #bytes = new Uint32Array(0);
  /** Word 0 as the last successful look at an entry found it. */
  #lastWord = 0;
  /** Mappings and copies through this record. */
  mapCount = 0;
  /** Where the entry that `pinPassedOn` pinned leads. */
  passedDomain = 0;
  passedRef = 0;

  constructor(mapper: DomId, domain: DomId, view: GrantTableView) {
    const { words, index } = stateWords(view);
    this.domain = domain;
    this.view = view;
    this.#mapper = mapper;
    this.#words = view.table.i32;
    this.#entryWords = view.table.u32;
    this.#statuses = view.table.u16;
    this.#stateWords = words;
    this.#stateIndex = index;
    this.#frameCount = ramFrameCount(view);
    firstEntryIndex(view); // throws for a table that lies outside
    this.#follow();
  }

  frameOf(ref: number): number {
    return this.#frames[ref]!;
  }

  /** What of the page a pinned entry opens: first byte, and how many. */
  startOf(ref: number): number {
    return this.#isV2 ? this.#bytes[ref]! & 0xffff : 0;
  }

  sizeOf(ref: number): number {
    return this.#isV2 ? this.#bytes[ref]! >>> 16 : XEN_PAGE_SIZE;
  }

  /** One more mapping of an entry: 0 or the negative `GNTST_*` that `map_grant_ref` answers with (Xen grant_table.c). */
  pin(ref: number, writable: boolean): number {
    return this.#pin(ref, writable, CHECKED_FOR_MAP);
  }

  /** The same for a copy, which may also use a sub-page (Xen `acquire_grant_for_copy`). */
  pinForCopy(ref: number, writable: boolean): number {
    return this.#pin(ref, writable, CHECKED_FOR_COPY);
  }

  /** Whether a copy by an entry has to pass on to another domain's: it is transitive, and we hold nothing of it yet. */
  isPassedOn(ref: number): boolean {
    if (!this.#isCurrent() || !this.#isV2 || !(ref >= 0 && ref < this.#entryCount) || this.#isPinned(ref))
      return false;
    const word = Atomics.load(this.#words, this.#firstEntry + ref * ENTRY_WORDS_V2);
    return (word & GTF_type_mask) === GTF_transitive;
  }

  /** Pins a transitive entry that is not pinned and puts where it leads into `passedDomain` and `passedRef`. */
  pinPassedOn(ref: number, writable: boolean): number {
    const status = this.#setInUseV2(ref, writable, false, CHECKED_FOR_COPY, GTF_transitive);
    if (status !== GNTST_okay) return status;
    if (this.#hasMoved()) return this.#letGo(ref, writable, false);
    const index = this.#firstEntry + ref * ENTRY_WORDS_V2;
    this.passedDomain = this.#entryWords[index + TRANS_DOMID_WORD_V2]! & 0xffff;
    this.passedRef = this.#entryWords[index + TRANS_REF_WORD_V2]!;
    this.#bytes[ref] = PASSED_ON;
    (writable ? this.#writers : this.#readers)[ref]! += 1;
    this.mapCount += 1;
    return GNTST_okay;
  }

  /** One pin less; with `isConnected` false the granter's table is not touched. */
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

  #pin(ref: number, writable: boolean, checked: number): number {
    if (!this.#isCurrent()) return GNTST_eagain;
    if (!(ref >= 0 && ref < this.#entryCount)) return GNTST_bad_gntref;
    const counts = writable ? this.#writers : this.#readers;
    if (counts[ref]! >= PIN_COUNT_MAX) return GNTST_general_error;
    const isPinned = this.#isPinned(ref);
    if (isPinned && this.#isV2 && this.#isRefused(ref, checked)) return GNTST_general_error;
    if (!isPinned || (writable && this.#writers[ref] === 0)) {
      const status = this.#isV2
        ? this.#setInUseV2(ref, writable, isPinned, checked, GTF_permit_access)
        : this.#setInUseV1(ref, writable, isPinned, checked);
      if (status !== GNTST_okay) return status;
      if (Atomics.load(this.#stateWords, this.#stateIndex) !== this.#state && this.#hasMoved())
        return this.#letGo(ref, writable, isPinned);
      if (!isPinned && !this.#readEntry(ref)) {
        this.#clearInUse(ref, GTF_in_use);
        return GNTST_bad_page;
      }
    }
    counts[ref]! += 1;
    this.mapCount += 1;
    return GNTST_okay;
  }

  #isPinned(ref: number): boolean {
    return (this.#readers[ref]! | this.#writers[ref]!) !== 0;
  }

  /** A mapping of an entry that is pinned in part, or anything of one that is being passed on. */
  #isRefused(ref: number, checked: number): boolean {
    const bytes = this.#bytes[ref]!;
    return bytes === PASSED_ON || (checked === CHECKED_FOR_MAP && bytes !== WHOLE_PAGE);
  }

  /** What an entry leads to, at its first pin; false if that is outside the granter's RAM. */
  #readEntry(ref: number): boolean {
    const index = this.#firstEntry + ref * (this.#isV2 ? ENTRY_WORDS_V2 : ENTRY_WORDS);
    const frame = this.#entryWords[index + (this.#isV2 ? FRAME_WORD_V2 : FRAME_WORD)]!;
    if (frame >= this.#frameCount) return false;
    this.#frames[ref] = frame;
    if (!this.#isV2) return true;
    const isPart = (this.#lastWord & GTF_sub_page) !== 0;
    this.#bytes[ref] = isPart ? this.#entryWords[index + BYTES_WORD_V2]! : WHOLE_PAGE;
    return this.#entryWords[index + FRAME_HIGH_WORD_V2] === 0;
  }

  /** Whether the version of the table changes, or has changed: more than its size. */
  #hasMoved(): boolean {
    return !isSameLayout(this.#state, Atomics.load(this.#stateWords, this.#stateIndex));
  }

  /** Undoes what was set when the version changes: whoever changes it either saw our bits, or is seen here. */
  #letGo(ref: number, writable: boolean, isPinned: boolean): number {
    if (!isPinned) this.#clearInUse(ref, GTF_in_use);
    else if (writable) this.#clearInUse(ref, GTF_writing);
    return GNTST_eagain;
  }

  /** Xen's `_set_status_v1`: type and domain are checked for the first pin, the write permission for every new one. */
  #setInUseV1(ref: number, writable: boolean, isPinned: boolean, checked: number): number {
    const index = this.#firstEntry + ref * ENTRY_WORDS;
    const expected = GTF_permit_access | (this.#mapper << DOMID_SHIFT);
    const use = writable ? GTF_in_use : GTF_reading;
    let word = Atomics.load(this.#words, index);
    for (let tries = 0; tries < EXCHANGE_TRIES; tries++) {
      if (!isPinned && (word & checked) !== expected) return GNTST_general_error;
      if (writable && (word & GTF_readonly) !== 0) return GNTST_general_error;
      const found = Atomics.compareExchange(this.#words, index, word, word | use);
      if (found === word) return GNTST_okay;
      word = found;
    }
    return GNTST_general_error;
  }

  /** Xen's `_set_status_v2`: status bits, barrier, and the same checks again on what the flags are then. */
  #setInUseV2(ref: number, writable: boolean, isPinned: boolean, checked: number, type: number): number {
    const index = this.#firstEntry + ref * ENTRY_WORDS_V2;
    const expected = type | (this.#mapper << DOMID_SHIFT);
    const use = writable ? GTF_in_use : GTF_reading;
    let word = Atomics.load(this.#words, index);
    if (!isPinned && (word & checked) !== expected) return GNTST_general_error;
    if (writable && (word & GTF_readonly) !== 0) return GNTST_general_error;
    Atomics.or(this.#statuses, this.#firstStatus + ref, use);
    word = Atomics.load(this.#words, index);
    this.#lastWord = word;
    const isReadonly = writable && (word & GTF_readonly) !== 0;
    if (!isReadonly && (isPinned || (word & checked) === expected)) return GNTST_okay;
    this.#clearInUse(ref, isPinned ? GTF_writing : GTF_in_use);
    return GNTST_general_error;
  }

  /**
   * A reserved entry may be in use while the version changes, and a change between the clearing and the look at the state
   * carries the bit over: it goes there too. Any other entry in use keeps the version from changing.
   */
  #clearInUse(ref: number, flags: number): void {
    this.#clear(ref, flags);
    if (ref >= RESERVED_COUNT) return;
    const before = this.#state;
    if (Atomics.load(this.#stateWords, this.#stateIndex) === before || !this.#follow()) return;
    if (!isSameLayout(before, this.#state) && ref < this.#entryCount) this.#clear(ref, flags);
  }

  #clear(ref: number, flags: number): void {
    if (this.#isV2) Atomics.and(this.#statuses, this.#firstStatus + ref, ~flags);
    else Atomics.and(this.#words, this.#firstEntry + ref * ENTRY_WORDS, ~flags);
  }

  /** Whether this record is of the table as it is now, or could be made so: not while the version changes. */
  #isCurrent(): boolean {
    return this.#stateWords[this.#stateIndex] === this.#state || this.#follow();
  }

  /** Takes over version and size of the table; counts of pinned entries (the reserved ones) stay. */
  #follow(): boolean {
    const state = Atomics.load(this.#stateWords, this.#stateIndex);
    const version = stateVersion(state);
    const { view } = this;
    if (version !== 1 && (version !== 2 || view.control === undefined)) return false;
    const isMoved = !isSameLayout(this.#state, state);
    this.#state = state;
    this.#isV2 = version === 2;
    this.#firstEntry = version === 2 ? view.control!.entriesV2 / 4 : firstEntryIndex(view);
    this.#firstStatus = version === 2 ? view.control!.status / 2 : 0;
    this.#entryCount = entriesIn(state, view);
    if (this.#entryCount > this.#readers.length) this.#grow(this.#entryCount);
    if (!this.#isV2) return true;
    if (isMoved) this.#bytes.fill(WHOLE_PAGE);
    if (this.#bytes.length < this.#readers.length)
      this.#bytes = grown(this.#bytes, new Uint32Array(this.#readers.length).fill(WHOLE_PAGE));
    return true;
  }

  #grow(entryCount: number): void {
    this.#readers = grown(this.#readers, new Uint8Array(entryCount));
    this.#writers = grown(this.#writers, new Uint8Array(entryCount));
    this.#frames = grown(this.#frames, new Uint32Array(entryCount));
  }
}

function grown<T extends Uint8Array | Uint32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
