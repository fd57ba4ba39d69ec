import { GNTST_eagain, GNTST_okay, GTF_readonly } from '@virtlab/abi/grant-table';
import type { GrantTableView, GrantVersion } from './contract.ts';
import {
  BYTES_WORD_V2,
  ENTRY_WORDS,
  ENTRY_WORDS_V2,
  EXCHANGE_TRIES,
  FLAGS_MASK,
  FRAME_HIGH_WORD_V2,
  FRAME_WORD,
  FRAME_WORD_V2,
  GTF_held,
  firstEntryIndex,
} from './entries.ts';

/** The granter's hand on its entries, in the protocol of either version (xen/grant_table.h). */
export interface OwnEntries {
  readonly version: GrantVersion;
  /** Introduces an entry; `bytes` is what stands before the frame in version 2 (0 for a full page). */
  publish(ref: number, bytes: number, frame: number, word: number): void;
  /** Invalidates an entry unless it is in use: false then, and nothing changed. */
  revoke(ref: number): boolean;
  /** Keeps further uses of an entry that is in use away, as far as the version can. */
  closeToOthers(ref: number): void;
  isInUse(ref: number): boolean;
  wordOf(ref: number): number;
  frameOf(ref: number): number;
  /** Exchanges two entries; `GNTST_eagain` and no change while either is in use. */
  swap(a: number, b: number): number;
}

export class OwnEntriesV1 implements OwnEntries {
  readonly version = 1;
  readonly #words: Int32Array;
  readonly #frames: Uint32Array;
  readonly #first: number;

  constructor(view: GrantTableView) {
    this.#words = view.table.i32;
    this.#frames = view.table.u32;
    this.#first = firstEntryIndex(view);
  }

  /** The frame before the word that makes it valid (grant_table.h, "Introducing a valid entry"). */
  publish(ref: number, _bytes: number, frame: number, word: number): void {
    const index = this.#first + ref * ENTRY_WORDS;
    this.#frames[index + FRAME_WORD] = frame;
    Atomics.store(this.#words, index, word);
  }

  revoke(ref: number): boolean {
    return this.#takeOut(ref) >= 0;
  }

  /** Nothing can be done: "this cannot be done directly" (grant_table.h). */
  closeToOthers(): void {}

  isInUse(ref: number): boolean {
    return (this.wordOf(ref) & GTF_held) !== 0;
  }

  wordOf(ref: number): number {
    return Atomics.load(this.#words, this.#first + ref * ENTRY_WORDS);
  }

  frameOf(ref: number): number {
    return this.#frames[this.#first + ref * ENTRY_WORDS + FRAME_WORD]!;
  }

  swap(a: number, b: number): number {
    const wordA = this.#takeOut(a);
    if (wordA < 0) return GNTST_eagain;
    const frameA = this.frameOf(a);
    const wordB = this.#takeOut(b);
    if (wordB < 0) {
      this.publish(a, 0, frameA, wordA);
      return GNTST_eagain;
    }
    this.publish(a, 0, this.frameOf(b), wordB);
    this.publish(b, 0, frameA, wordA);
    return GNTST_okay;
  }

  /**
   * grant_table.h, "Invalidating an unused GTF_permit_access entry". The word that was, or -1 if the entry is in use: a word
   * with all bits set is. Our own words are never negative.
   */
  #takeOut(ref: number): number {
    const index = this.#first + ref * ENTRY_WORDS;
    let word = Atomics.load(this.#words, index);
    for (let tries = 0; tries < EXCHANGE_TRIES; tries++) {
      if ((word & GTF_held) !== 0) return -1;
      const found = Atomics.compareExchange(this.#words, index, word, 0);
      if (found === word) return word & 0x7fff_ffff;
      word = found;
    }
    return -1;
  }
}

export class OwnEntriesV2 implements OwnEntries {
  readonly version = 2;
  readonly #words: Int32Array;
  readonly #frames: Uint32Array;
  readonly #flags: Uint16Array;
  readonly #first: number;
  readonly #firstStatus: number;

  constructor({ table, control }: GrantTableView) {
    if (control === undefined) throw new TypeError('A version 2 table has control words');
    this.#words = table.i32;
    this.#frames = table.u32;
    this.#flags = table.u16;
    this.#first = control.entriesV2 / 4;
    this.#firstStatus = control.status / 2;
  }

  publish(ref: number, bytes: number, frame: number, word: number): void {
    const index = this.#first + ref * ENTRY_WORDS_V2;
    this.#words[index + BYTES_WORD_V2] = bytes;
    this.#frames[index + FRAME_WORD_V2] = frame;
    this.#words[index + FRAME_HIGH_WORD_V2] = 0;
    Atomics.store(this.#words, index, word);
  }

  /**
   * Type to GTF_invalid, a full barrier (both accesses are sequentially consistent), then a look at the status: the mapper's
   * side sets its status bits, has a barrier, and looks at the flags again. One of the two sees the other. GTF_readonly
   * stays: nobody checks the type of an entry that he holds, and what he may only read must not become writable.
   */
  revoke(ref: number): boolean {
    const status = this.#firstStatus + ref;
    if ((Atomics.load(this.#flags, status) & GTF_held) !== 0) return false;
    const at = (this.#first + ref * ENTRY_WORDS_V2) * 2;
    const flags = this.#flags[at]!;
    Atomics.store(this.#flags, at, flags & GTF_readonly);
    if ((Atomics.load(this.#flags, status) & GTF_held) === 0) return true;
    Atomics.store(this.#flags, at, flags);
    return false;
  }

  closeToOthers(ref: number): void {
    const at = (this.#first + ref * ENTRY_WORDS_V2) * 2;
    Atomics.store(this.#flags, at, this.#flags[at]! & GTF_readonly);
  }

  isInUse(ref: number): boolean {
    return (Atomics.load(this.#flags, this.#firstStatus + ref) & GTF_held) !== 0;
  }

  wordOf(ref: number): number {
    return Atomics.load(this.#words, this.#first + ref * ENTRY_WORDS_V2);
  }

  frameOf(ref: number): number {
    return this.#frames[this.#first + ref * ENTRY_WORDS_V2 + FRAME_WORD_V2]!;
  }

  swap(a: number, b: number): number {
    const flagsA = this.wordOf(a) & FLAGS_MASK;
    const flagsB = this.wordOf(b) & FLAGS_MASK;
    if (!this.revoke(a)) return GNTST_eagain;
    if (!this.revoke(b)) {
      Atomics.store(this.#flags, (this.#first + a * ENTRY_WORDS_V2) * 2, flagsA);
      return GNTST_eagain;
    }
    const atA = this.#first + a * ENTRY_WORDS_V2;
    const atB = this.#first + b * ENTRY_WORDS_V2;
    const wordA = (this.#words[atA]! & ~FLAGS_MASK) | flagsA;
    const wordB = (this.#words[atB]! & ~FLAGS_MASK) | flagsB;
    for (let word = 1; word < ENTRY_WORDS_V2; word++) {
      const kept = this.#words[atA + word]!;
      this.#words[atA + word] = this.#words[atB + word]!;
      this.#words[atB + word] = kept;
    }
    Atomics.store(this.#words, atA, wordB);
    Atomics.store(this.#words, atB, wordA);
    return GNTST_okay;
  }
}
