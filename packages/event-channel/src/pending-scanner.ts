import { EVTCHN_2L_NR_CHANNELS, EVTCHN_2L_WORD_BITS, EVTCHN_2L_WORD_COUNT } from '@virtlab/abi/event-channel';
import type { EventTarget } from './contract.ts';
import { routedVcpu } from './post.ts';
import {
  HALF_BITS,
  MASK_INDEX,
  PENDING_INDEX,
  WORD_SHIFT,
  selectWord,
  selectorIndex,
  upcallIndex,
} from './two-level.ts';

const PORT_MASK = EVTCHN_2L_NR_CHANNELS - 1;

/**
 * The receiving half of the 2-level ABI: takes the selector of one vCPU and runs the ports it leads to, once each. A round
 * starts behind the port that ran last, so that a busy low port cannot starve a high one.
 */
export class PendingScanner {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #upcall: number;
  readonly #selector: number;
  readonly #pending: number;
  readonly #mask: number;
  readonly #run: (port: number) => boolean;
  /** Where ports may be another vCPU's, to ask whose they are. */
  readonly #shared: EventTarget | undefined;
  readonly #vcpu: number;
  #nextPort = 0;

  /**
   * `run` answers whether the port had somebody to tell; it must not throw. With `isOneOfMany` ports that are bound to
   * another vCPU are left to it.
   */
  constructor(
    target: EventTarget,
    vcpu: number,
    run: (port: number) => boolean,
    isOneOfMany: boolean = false,
  ) {
    this.#vcpu = vcpu;
    this.#shared = isOneOfMany ? target : undefined;
    this.#words = target.region.i32;
    this.#bytes = target.region.u8;
    this.#upcall = upcallIndex(target, vcpu);
    this.#selector = selectorIndex(target, vcpu);
    this.#pending = (target.sharedInfoOffset >>> 2) + PENDING_INDEX;
    this.#mask = (target.sharedInfoOffset >>> 2) + MASK_INDEX;
    this.#run = run;
  }

  /** Whether a selector bit is set, upcall or not. */
  isSelected(): boolean {
    const words = this.#words;
    return (Atomics.load(words, this.#selector) | Atomics.load(words, this.#selector + 1)) !== 0;
  }

  hasPending(): boolean {
    return Atomics.load(this.#bytes, this.#upcall) !== 0;
  }

  /**
   * One round. What is posted meanwhile is run if its word is still to come, and otherwise has raised the upcall again.
   * Answers how many ports were told. The upcall is lowered before the selector is taken: the other way round a sender
   * between the two would set a selector bit under an upcall that is then lowered.
   */
  round(): number {
    Atomics.store(this.#bytes, this.#upcall, 0);
    const low = Atomics.exchange(this.#words, this.#selector, 0);
    const high = Atomics.exchange(this.#words, this.#selector + 1, 0);
    if ((low | high) === 0) return 0;
    const startWord = this.#nextPort >>> WORD_SHIFT;
    const startBit = this.#nextPort & (EVTCHN_2L_WORD_BITS - 1);
    const startSelected = nextSelected(low, high, startWord) === startWord;
    let ran = 0;
    if (startSelected) ran += this.#runWord(startWord, startBit, EVTCHN_2L_WORD_BITS);
    let word = nextSelected(low, high, startWord + 1);
    while (word < EVTCHN_2L_WORD_COUNT) {
      ran += this.#runWord(word, 0, EVTCHN_2L_WORD_BITS);
      word = nextSelected(low, high, word + 1);
    }
    word = nextSelected(low, high, 0);
    while (word < startWord) {
      ran += this.#runWord(word, 0, EVTCHN_2L_WORD_BITS);
      word = nextSelected(low, high, word + 1);
    }
    if (startSelected) ran += this.#runWord(startWord, 0, startBit);
    return ran;
  }

  /** Runs ports `[from, to)` of one 64-bit word: both of its halves hang on the one selector bit. */
  #runWord(word: number, from: number, to: number): number {
    let ran = 0;
    if (from < HALF_BITS) ran += this.#runHalf(word * 2, from, Math.min(to, HALF_BITS));
    if (to > HALF_BITS) ran += this.#runHalf(word * 2 + 1, Math.max(from - HALF_BITS, 0), to - HALF_BITS);
    return ran;
  }

  #runHalf(half: number, from: number, to: number): number {
    if (from >= to) return 0;
    const range = (-1 << from) & (-1 >>> (HALF_BITS - to));
    const pending = Atomics.load(this.#words, this.#pending + half);
    let bits = pending & ~Atomics.load(this.#words, this.#mask + half) & range;
    let ran = 0;
    while (bits !== 0) {
      const bit = bits & -bits;
      bits ^= bit;
      // An earlier handler of this round may have masked or closed the port.
      if ((Atomics.load(this.#words, this.#mask + half) & bit) !== 0) continue;
      const port = half * HALF_BITS + (HALF_BITS - 1 - Math.clz32(bit));
      if (this.#shared !== undefined && this.#isAnothers(this.#shared, port)) continue;
      if ((Atomics.and(this.#words, this.#pending + half, ~bit) & bit) === 0) continue;
      this.#nextPort = (port + 1) & PORT_MASK;
      if (this.#run(port)) ran += 1;
    }
    return ran;
  }

  /** Its vCPU is told once more: the sender may have told this one, just before the port was moved. */
  #isAnothers(target: EventTarget, port: number): boolean {
    const vcpu = routedVcpu(target, port);
    if (vcpu === this.#vcpu) return false;
    selectWord(target, port, vcpu);
    return true;
  }
}

/** The lowest selected word from `from` on; `EVTCHN_2L_WORD_COUNT` if there is none. */
function nextSelected(low: number, high: number, from: number): number {
  if (from < HALF_BITS) {
    const bits = low & (-1 << from);
    if (bits !== 0) return HALF_BITS - 1 - Math.clz32(bits & -bits);
  }
  if (from < EVTCHN_2L_WORD_COUNT) {
    const bits = from > HALF_BITS ? high & (-1 << (from - HALF_BITS)) : high;
    if (bits !== 0) return EVTCHN_2L_WORD_COUNT - 1 - Math.clz32(bits & -bits);
  }
  return EVTCHN_2L_WORD_COUNT;
}
