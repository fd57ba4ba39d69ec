import {
  VRING_PACKED_DESC_EVENT,
  VRING_PACKED_EVENT_FLAG_DESC,
  VRING_PACKED_EVENT_FLAG_DISABLE,
  VRING_PACKED_EVENT_FLAG_ENABLE,
} from '@virtlab/abi/virtio-ring';
import { loadWordAcquire, storeWordRelease } from '@virtlab/guest-memory';
import { packedNeedEvent } from './need-event.ts';
import { POSITION_SLOT_MASK, POSITION_WRAP_SHIFT } from './packed-views.ts';

/** Both halves of an event area are one word. */
const FLAGS_SHIFT = (VRING_PACKED_DESC_EVENT.offset.flags - VRING_PACKED_DESC_EVENT.offset.off_wrap) * 8;
const FLAGS_MASK = VRING_PACKED_EVENT_FLAG_DISABLE | VRING_PACKED_EVENT_FLAG_DESC;
const SLOT_MASK = POSITION_SLOT_MASK;
const WRAP_SHIFT = POSITION_WRAP_SHIFT;
const WANT_ALL = VRING_PACKED_EVENT_FLAG_ENABLE << FLAGS_SHIFT;
const WANT_NONE = VRING_PACKED_EVENT_FLAG_DISABLE << FLAGS_SHIFT;
const WANT_ONE = VRING_PACKED_EVENT_FLAG_DESC << FLAGS_SHIFT;
const ONE = VRING_PACKED_EVENT_FLAG_DESC;
const NONE = VRING_PACKED_EVENT_FLAG_DISABLE;

/** No word that this side writes: who created the area, or was here before, may have left anything in it. */
const UNKNOWN = -1;

/**
 * The two event words of a packed queue as one side has them (VIRTIO 1.4 §2.8.10): its own, in which it says which
 * doorbells it wants, and the peer's. Each is read or written whole, in one access. Positions are 16 bits: slot and
 * wrap counter.
 */
export class PackedEvents {
  /** Whether doorbells are wanted at all; while they are, the word may lag behind and be brought up by `ask`. */
  isEnabled = true;
  readonly #size: number;
  readonly #eventIdx: boolean;
  readonly #own32: Int32Array;
  readonly #own: number;
  readonly #peer32: Int32Array;
  readonly #peer: number;
  /** What the own word holds. */
  #word: number;

  /** `isFresh`: the own area is known to hold 0, "all doorbells". */
  constructor(
    size: number,
    eventIdx: boolean,
    own: readonly [Int32Array, number],
    peer: readonly [Int32Array, number],
    isFresh: boolean,
  ) {
    this.#size = size;
    this.#eventIdx = eventIdx;
    [this.#own32, this.#own] = own;
    [this.#peer32, this.#peer] = peer;
    this.#word = isFresh ? WANT_ALL : UNKNOWN;
  }

  /** Before the owner sleeps: wants a doorbell for `position`. True when the word changed, so that it must look again. */
  ask(position: number): boolean {
    if (!this.isEnabled || !this.#eventIdx) return false;
    const word = WANT_ONE | position;
    if (this.#word === word) return false;
    this.#write(word);
    return true;
  }

  /** Wants no doorbell. An event that has passed `position` stays quiet by itself for two laps less one slot. */
  disable(position: number): void {
    if (!this.isEnabled) return;
    this.isEnabled = false;
    const word = this.#word;
    if (!this.#eventIdx || word < 0 || word === WANT_ALL || word === (WANT_ONE | position)) {
      this.#write(WANT_NONE);
    }
  }

  /** Wants doorbells from `position` on; the owner must look again. */
  enable(position: number): void {
    this.isEnabled = true;
    const word = this.#eventIdx ? WANT_ONE | position : WANT_ALL;
    if (this.#word !== word) this.#write(word);
  }

  /**
   * Whether the peer wants a doorbell for the `count` slots before (`slot`, `wrap`). Flags that mean nothing and
   * offsets outside the ring count as "all doorbells" (README, case 38).
   */
  isWanted(slot: number, wrap: number, count: number): boolean {
    const word = loadWordAcquire(this.#peer32, this.#peer);
    const flags = (word >>> FLAGS_SHIFT) & FLAGS_MASK;
    if (flags !== ONE || !this.#eventIdx) return flags !== NONE;
    const event = word & SLOT_MASK;
    const eventWrap = (word >>> WRAP_SHIFT) & 1;
    return packedNeedEvent(event, eventWrap, slot, wrap, count, this.#size);
  }

  #write(word: number): void {
    this.#word = word;
    storeWordRelease(this.#own32, this.#own, word);
  }
}
