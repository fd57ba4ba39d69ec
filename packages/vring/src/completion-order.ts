import type { RingChain } from './device-chain.ts';

/**
 * Chains of a queue under VIRTIO_F_IN_ORDER, by the slot in which they were popped: those pushed too early wait here, so
 * that any device works in order without knowing (VIRTIO 1.4 §2.7.9, §2.8.8).
 */
export class CompletionOrder {
  readonly #bySlot: (RingChain | undefined)[];
  /**
   * Whether the used entry staged last may be replaced by one for the chain after it: it completed a chain in full, which
   * is what a driver assumes of a chain without an entry of its own, and the driver cannot see it yet.
   */
  mayExtend = false;

  constructor(size: number) {
    this.#bySlot = Array.from({ length: size }, () => undefined);
  }

  add(slot: number, chain: RingChain): void {
    this.#bySlot[slot] = chain;
  }

  /** Takes back the chain of a slot, which was never pushed. */
  undo(slot: number): void {
    this.#bySlot[slot] = undefined;
  }

  /** Takes out the chain of the slot that is to be used next, when it is done. */
  take(slot: number): RingChain | undefined {
    const chain = this.#bySlot[slot];
    if (chain === undefined || !chain.isHeld) return undefined;
    this.#bySlot[slot] = undefined;
    return chain;
  }
}
