import type { DomId } from '@virtlab/abi/brands';
import {
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_okay,
  GTF_permit_access,
  GTF_readonly,
  GTF_sub_page,
  GTF_type_mask,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';
import { entriesIn, isSameLayout, stateOf, stateVersion } from './control-words.ts';
import {
  BYTES_WORD_V2,
  DOMID_SHIFT,
  ENTRY_WORDS,
  ENTRY_WORDS_V2,
  EXCHANGE_TRIES,
  FRAME_HIGH_WORD_V2,
  FRAME_WORD,
  FRAME_WORD_V2,
  GTF_in_transit,
  firstEntryIndex,
  ramFrameCount,
} from './entries.ts';

const CHECKED: number = GTF_type_mask | (0xffff << DOMID_SHIFT);

/**
 * The second step of a copy by a transitive grant: an entry is used in the name of the domain that it is granted to, by
 * another one. Both may use it at once, and neither sees the other's counts, so this use has a bit of its own in the entry
 * (`GTF_in_transit`), and a word beside the table names who set it: one at a time, and whoever dies meanwhile is found.
 */
export class TransitHold {
  /** Of the granter's RAM, once taken. */
  frame = 0;
  start = 0;
  size = 0;
  #view: GrantTableView | undefined;
  #holders: Uint16Array | undefined;
  #holder = 0;
  #isV2 = false;
  /** Of word 0 of the entry, of its status word, and of who uses it. */
  #index = 0;
  #statusIndex = 0;
  #holderIndex = 0;

  /** The RAM of whose page it is. */
  get view(): GrantTableView {
    return this.#view!;
  }

  /** Takes the entry that `view` grants to domain `as`. Answers as Xen's `acquire_grant_for_copy` at its second step. */
  take(view: GrantTableView, as: DomId, holder: DomId, ref: number, writable: boolean): number {
    const state = stateOf(view);
    const version = stateVersion(state);
    if (version !== 1 && version !== 2) return GNTST_eagain;
    if (!(ref < entriesIn(state, view))) return GNTST_bad_gntref;
    this.#find(view, version === 2, ref);
    if (!this.#lock(holder + 1)) return GNTST_eagain;
    const expected = GTF_permit_access | (as << DOMID_SHIFT);
    const status = this.#isV2 ? this.#markV2(expected, writable) : this.#markV1(expected, writable);
    if (status !== GNTST_okay) {
      this.#unlock();
      return status;
    }
    const after = stateOf(view);
    if (after !== state && !isSameLayout(state, after)) return this.#undo(GNTST_eagain);
    return this.frame < ramFrameCount(view) ? GNTST_okay : this.#undo(GNTST_bad_page);
  }

  release(): void {
    const { table } = this.#view!;
    if (this.#isV2) Atomics.and(table.u16, this.#statusIndex, ~GTF_in_transit);
    else Atomics.and(table.i32, this.#index, ~GTF_in_transit);
    this.#unlock();
    this.#view = undefined;
  }

  #undo(status: number): number {
    this.release();
    return status;
  }

  #find(view: GrantTableView, isV2: boolean, ref: number): void {
    const { control } = view;
    this.#view = view;
    this.#isV2 = isV2;
    this.#holders = control && view.table.u16;
    if (control !== undefined) this.#holderIndex = control.transit / 2 + ref;
    if (isV2) {
      this.#index = control!.entriesV2 / 4 + ref * ENTRY_WORDS_V2;
      this.#statusIndex = control!.status / 2 + ref;
    } else this.#index = firstEntryIndex(view) + ref * ENTRY_WORDS;
  }

  #lock(holder: number): boolean {
    this.#holder = holder;
    if (this.#holders === undefined) return true; // the bit alone has to do
    return Atomics.compareExchange(this.#holders, this.#holderIndex, 0, holder) === 0;
  }

  #unlock(): void {
    if (this.#holders !== undefined)
      Atomics.compareExchange(this.#holders, this.#holderIndex, this.#holder, 0);
  }

  #markV1(expected: number, writable: boolean): number {
    const words = this.#view!.table.i32;
    let word = Atomics.load(words, this.#index);
    for (let tries = 0; tries < EXCHANGE_TRIES; tries++) {
      if ((word & CHECKED) !== expected) return GNTST_general_error;
      if (writable && (word & GTF_readonly) !== 0) return GNTST_general_error;
      if ((word & GTF_in_transit) !== 0) return GNTST_eagain;
      const found = Atomics.compareExchange(words, this.#index, word, word | GTF_in_transit);
      if (found === word) {
        this.#setPage(this.#view!.table.u32[this.#index + FRAME_WORD]!, 0, XEN_PAGE_SIZE);
        return GNTST_okay;
      }
      word = found;
    }
    return GNTST_general_error;
  }

  /** Only one more step is allowed, so an entry that is transitive itself is none. */
  #markV2(expected: number, writable: boolean): number {
    const { i32, u16, u32 } = this.#view!.table;
    const refused = CHECKED | (writable ? GTF_readonly : 0);
    if ((Atomics.load(i32, this.#index) & refused) !== expected) return GNTST_general_error;
    if ((Atomics.or(u16, this.#statusIndex, GTF_in_transit) & GTF_in_transit) !== 0) return GNTST_eagain;
    const word = Atomics.load(i32, this.#index);
    if ((word & refused) !== expected) {
      Atomics.and(u16, this.#statusIndex, ~GTF_in_transit);
      return GNTST_general_error;
    }
    const isPart = (word & GTF_sub_page) !== 0;
    const bytes = isPart ? u32[this.#index + BYTES_WORD_V2]! : XEN_PAGE_SIZE << 16;
    const isHigh = u32[this.#index + FRAME_HIGH_WORD_V2] !== 0;
    const frame = u32[this.#index + FRAME_WORD_V2]!;
    this.#setPage(isHigh ? Infinity : frame, bytes & 0xffff, bytes >>> 16);
    return GNTST_okay;
  }

  #setPage(frame: number, start: number, size: number): void {
    this.frame = frame;
    this.start = start;
    this.size = size;
  }
}
