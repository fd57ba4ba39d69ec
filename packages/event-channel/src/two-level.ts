import {
  EVTCHN_2L_WORD_BITS,
  EVTCHN_2L_WORD_COUNT,
  SHARED_INFO,
  VCPU_INFO,
} from '@virtlab/abi/event-channel';
import type { EventTarget } from './contract.ts';

/**
 * The 2-level ABI in shared memory, as the sender and the owner of a port use it (Xen common/event_2l.c). The bitmaps are
 * words of 64 bits in the ABI; bit n of a little-endian array of 64-bit words is bit n of the same bytes taken as 32-bit
 * words, so each 64-bit word is two halves here. One selector bit still stands for both.
 */

/** Bits of one half of an ABI word. */
export const HALF_BITS = 32;
const HALF_SHIFT = 5;
const HALF_MASK = HALF_BITS - 1;
/** log2 of the ports that share a selector bit. */
export const WORD_SHIFT: number = Math.log2(EVTCHN_2L_WORD_BITS);
/** Halves of either bitmap. */
export const HALF_COUNT: number = (EVTCHN_2L_WORD_COUNT * EVTCHN_2L_WORD_BITS) / HALF_BITS;

/** Index of the first half of `evtchn_pending` in 32-bit words from the start of shared_info. */
export const PENDING_INDEX: number = SHARED_INFO.offset.evtchn_pending / 4;
/** The same for `evtchn_mask`. */
export const MASK_INDEX: number = SHARED_INFO.offset.evtchn_mask / 4;

/** Index of the low half of a vCPU's `evtchn_pending_sel` in the 32-bit words of the target's region. */
export function selectorIndex(target: EventTarget, vcpu: number): number {
  return (target.sharedInfoOffset + vcpu * VCPU_INFO.size + VCPU_INFO.offset.evtchn_pending_sel) >>> 2;
}

/** Index of a vCPU's `evtchn_upcall_mask` in the bytes of the target's region. */
export function upcallMaskIndex(target: EventTarget, vcpu: number): number {
  return target.sharedInfoOffset + vcpu * VCPU_INFO.size + VCPU_INFO.offset.evtchn_upcall_mask;
}

/** Index of a vCPU's `evtchn_upcall_pending` in the bytes of the target's region. */
export function upcallIndex(target: EventTarget, vcpu: number): number {
  return target.sharedInfoOffset + vcpu * VCPU_INFO.size + VCPU_INFO.offset.evtchn_upcall_pending;
}

/**
 * Posts an event: pending bit, then, unless that was set or the port is masked, the selector of `vcpu`, then the upcall.
 * The order is what loses no edge. Synchronous, allocates nothing. `port` is below `EVTCHN_2L_NR_CHANNELS`.
 */
export function setPending(target: EventTarget, port: number, vcpu: number): void {
  const words = target.region.i32;
  const half = (target.sharedInfoOffset >>> 2) + (port >>> HALF_SHIFT);
  const bit = 1 << (port & HALF_MASK);
  if ((Atomics.or(words, half + PENDING_INDEX, bit) & bit) !== 0) return;
  if ((Atomics.load(words, half + MASK_INDEX) & bit) !== 0) return;
  selectWord(target, port, vcpu);
}

/** Takes a pending event back (a port is closed). */
export function clearPending(target: EventTarget, port: number): void {
  const half = (target.sharedInfoOffset >>> 2) + (port >>> HALF_SHIFT);
  Atomics.and(target.region.i32, half + PENDING_INDEX, ~(1 << (port & HALF_MASK)));
}

/** Events on the port stay pending from now on. */
export function maskPort(target: EventTarget, port: number): void {
  const half = (target.sharedInfoOffset >>> 2) + (port >>> HALF_SHIFT);
  Atomics.or(target.region.i32, half + MASK_INDEX, 1 << (port & HALF_MASK));
}

/** Clears the mask; only then looks whether an event arrived meanwhile, and if so selects it as a sender would. */
export function unmaskPort(target: EventTarget, port: number, vcpu: number): void {
  const words = target.region.i32;
  const half = (target.sharedInfoOffset >>> 2) + (port >>> HALF_SHIFT);
  const bit = 1 << (port & HALF_MASK);
  if ((Atomics.and(words, half + MASK_INDEX, ~bit) & bit) === 0) return;
  if ((Atomics.load(words, half + PENDING_INDEX) & bit) === 0) return;
  selectWord(target, port, vcpu);
}

/** The mask of a port, as it is now. */
export function isMasked(target: EventTarget, port: number): boolean {
  const half = (target.sharedInfoOffset >>> 2) + (port >>> HALF_SHIFT);
  return (Atomics.load(target.region.i32, half + MASK_INDEX) & (1 << (port & HALF_MASK))) !== 0;
}

/** Clears all masks: a domain that left this ABI takes whatever still comes over it. */
export function unmaskAllPorts(target: EventTarget): void {
  const first = (target.sharedInfoOffset >>> 2) + MASK_INDEX;
  for (let half = 0; half < HALF_COUNT; half++) Atomics.store(target.region.i32, first + half, 0);
}

/** Takes all pending events away; `take` gets each port. */
export function takeAllPending(target: EventTarget, take: (port: number) => void): void {
  const first = (target.sharedInfoOffset >>> 2) + PENDING_INDEX;
  for (let half = 0; half < HALF_COUNT; half++) {
    if (Atomics.load(target.region.i32, first + half) === 0) continue;
    let bits = Atomics.exchange(target.region.i32, first + half, 0);
    while (bits !== 0) {
      take(half * HALF_BITS + (HALF_BITS - 1 - Math.clz32(bits & -bits)));
      bits &= bits - 1;
    }
  }
}

/** Masks all ports: how a domain boots, before any port has a handler. What is pending stays so. */
export function maskAllPorts(target: EventTarget): void {
  const first = (target.sharedInfoOffset >>> 2) + MASK_INDEX;
  for (let half = 0; half < HALF_COUNT; half++) Atomics.store(target.region.i32, first + half, -1);
}

/**
 * Does again what a sender does after the pending bit, for all ports. A sender that was killed between two steps of
 * `setPending` leaves a bit that stops every later sender; this completes its work. At worst the upcall is spurious.
 */
export function repostPending(target: EventTarget, vcpu: number): void {
  const words = target.region.i32;
  const base = target.sharedInfoOffset >>> 2;
  const selector = selectorIndex(target, vcpu);
  for (let half = 0; half < HALF_COUNT; half++) {
    const pending = Atomics.load(words, base + PENDING_INDEX + half);
    if ((pending & ~Atomics.load(words, base + MASK_INDEX + half)) === 0) continue;
    const word = half >>> 1;
    Atomics.or(words, selector + (word >>> HALF_SHIFT), 1 << (word & HALF_MASK));
  }
  if ((Atomics.load(words, selector) | Atomics.load(words, selector + 1)) === 0) return;
  Atomics.store(target.region.u8, upcallIndex(target, vcpu), 1);
  target.wake();
}

/** Tells a vCPU that a port's word has something for it. */
export function selectWord(target: EventTarget, port: number, vcpu: number): void {
  const word = port >>> WORD_SHIFT;
  const bit = 1 << (word & HALF_MASK);
  const index = selectorIndex(target, vcpu) + (word >>> HALF_SHIFT);
  if ((Atomics.or(target.region.i32, index, bit) & bit) !== 0) return;
  Atomics.store(target.region.u8, upcallIndex(target, vcpu), 1);
  target.wake();
}
