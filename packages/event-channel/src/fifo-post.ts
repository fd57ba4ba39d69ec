import { EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_MAX_QUEUES } from '@virtlab/abi/event-channel';
import { XEN_LEGACY_MAX_VCPUS } from '@virtlab/abi/xen';
import type { EventTarget } from './contract.ts';
import {
  type DeliveryArea,
  JOURNAL_HEAD,
  JOURNAL_QUEUE_SHIFT,
  LOCK_MORE,
  LOCK_OWNER_MASK,
  QUEUES_PER_VCPU_SHIFT,
} from './delivery-area.ts';
import {
  BUSY,
  HEAD_INDEX,
  LINK,
  LINKED,
  MASKED,
  PAGE_SHIFT,
  PENDING,
  READY_INDEX,
  controlIndex,
  eventWordIndex,
} from './fifo-words.ts';
import { upcallIndex } from './two-level.ts';

/**
 * The sending half of the FIFO ABI (Xen common/event_fifo.c, `evtchn_fifo_set_pending`). Linking is done under a lock that
 * lies in shared memory, one for all queues of a domain. Nobody waits for it: who finds it taken leaves a bit in
 * `deferred` and goes; the holder does not let go before he has linked what was left. Its holder may be killed anywhere:
 * he has written into the journal what he is about to link, and `completeFifo` finishes it. The README says why this works.
 */

const PRIORITY_MASK = EVTCHN_FIFO_MAX_QUEUES - 1;
/** A queue number: 5 bits of vCPU, 4 of priority. */
export const QUEUE_MASK: number = (XEN_LEGACY_MAX_VCPUS << QUEUES_PER_VCPU_SHIFT) - 1;
/**
 * The owner of a word that is linked may mask it once and clear its pending bit once (it cannot unmask a busy one), and a sender set
 * the pending bit: more failures are made by an owner who does not keep to the protocol.
 */
const LINK_TRIES_MAX = 8;
/**
 * Bounds of one send, for a receiver that scribbles into its area: passes over what others left, ports looked at in them, and
 * tries to leave something. Who reaches one leaves the rest to the next sender; honest senders would have to leave so many ports
 * while one of them holds the lock.
 */
const PASSES_MAX = 4096;
export const LOOKS_MAX = 32_768;
const DEFER_TRIES_MAX = 64;

/** Ports that the send under way may still look at; sends do not nest. */
let looksLeft = 0;

/** Posts an event. `sender` is a domain id, or `DOMID_XEN`. Synchronous, waits for nobody, allocates nothing. */
export function postFifo(target: EventTarget, area: DeliveryArea, port: number, sender: number): void {
  const words = target.region.i32;
  let at = eventWordIndex(words, area, port);
  if (at < 0) {
    if (port >= area.portCount) return;
    Atomics.or(words, area.deferred + (port >>> 5), 1 << (port & 31));
    // `expandArray` adds the page, then looks at the bits.
    if (Atomics.load(words, area.pages + (port >>> PAGE_SHIFT)) === 0) return;
    at = eventWordIndex(words, area, port);
    if (at < 0) return;
  }
  const queue = target.region.u16[area.route + port]! & QUEUE_MASK;
  if (controlIndex(words, area, queue >>> QUEUES_PER_VCPU_SHIFT) === 0) return; // dropped, as in Xen
  const before = Atomics.or(words, at, PENDING);
  // Masked: unmask will look. Linked: the receiver unlinks first and then looks.
  if ((before & (MASKED | LINKED)) !== 0) return;
  const owner = sender + 1;
  if (Atomics.compareExchange(words, area.lock, 0, owner) === 0) {
    leave(target, area, owner, link(target, area, port));
  } else if (deferOrEnter(words, area, port, owner)) {
    leave(target, area, owner, false);
  }
}

/** Leaves the port to the holder of the lock. True if there is none any more: the lock is ours then, with work in it. */
function deferOrEnter(words: Int32Array, area: DeliveryArea, port: number, owner: number): boolean {
  const word = port >>> 5;
  Atomics.or(words, area.deferred + word, 1 << (port & 31));
  Atomics.or(words, area.summary + (word >>> 5), 1 << (word & 31));
  for (let attempt = 0; attempt < DEFER_TRIES_MAX; attempt++) {
    const held = Atomics.load(words, area.lock);
    if ((held & LOCK_OWNER_MASK) === 0) {
      if (Atomics.compareExchange(words, area.lock, held, owner | LOCK_MORE) === held) return true;
    } else if (
      (held & LOCK_MORE) !== 0 ||
      Atomics.compareExchange(words, area.lock, held, held | LOCK_MORE) === held
    ) {
      return false;
    }
  }
  return false;
}

/** Gives the lock back, after what others left meanwhile; then wakes the receiver if any of it made an upcall due. */
export function leave(target: EventTarget, area: DeliveryArea, owner: number, isDue: boolean): void {
  const words = target.region.i32;
  let wakes = isDue;
  let passes = 0;
  looksLeft = LOOKS_MAX;
  while (Atomics.compareExchange(words, area.lock, owner, 0) !== owner) {
    const held = Atomics.and(words, area.lock, ~LOCK_MORE);
    if ((held & LOCK_OWNER_MASK) !== owner) break;
    if (linkDeferred(target, area)) wakes = true;
    passes += 1;
    if (passes < PASSES_MAX && looksLeft > 0) continue;
    Atomics.store(words, area.lock, LOCK_MORE);
    break;
  }
  if (wakes) target.wake();
}

/** One pass. What it does not come to keeps its bit in the summary. */
function linkDeferred(target: EventTarget, area: DeliveryArea): boolean {
  const words = target.region.i32;
  let isDue = false;
  for (let index = area.summary; index < area.deferred; index++) {
    if (Atomics.load(words, index) === 0) continue;
    let groups = Atomics.exchange(words, index, 0);
    while (groups !== 0) {
      if (looksLeft <= 0) {
        Atomics.or(words, index, groups);
        return isDue;
      }
      const word = ((index - area.summary) << 5) + (31 - Math.clz32(groups & -groups));
      groups &= groups - 1;
      if (word << 5 < area.portCount && linkDeferredWord(target, area, word)) isDue = true;
    }
  }
  return isDue;
}

function linkDeferredWord(target: EventTarget, area: DeliveryArea, word: number): boolean {
  const words = target.region.i32;
  let bits = Atomics.load(words, area.deferred + word);
  let isDue = false;
  while (bits !== 0) {
    const bit = bits & -bits;
    bits ^= bit;
    looksLeft -= 1;
    const port = (word << 5) + (31 - Math.clz32(bit));
    if (eventWordIndex(words, area, port) < 0) continue; // its page is still missing
    // Before the look at the event word: who sets it again after that look leaves the bit again too.
    Atomics.and(words, area.deferred + word, ~bit);
    if (link(target, area, port)) isDue = true;
  }
  return isDue;
}

/** Puts a port at the end of its queue, if there is reason to. For the holder of the lock. True if an upcall is due. */
export function link(target: EventTarget, area: DeliveryArea, port: number): boolean {
  const { i32: words, u16: shorts } = target.region;
  const at = eventWordIndex(words, area, port);
  if (at < 0) return false;
  const word = words[at]!;
  if ((word & PENDING) === 0 || (word & (MASKED | LINKED)) !== 0) return false;
  const queue = shorts[area.route + port]! & QUEUE_MASK;
  const control = controlIndex(words, area, queue >>> QUEUES_PER_VCPU_SHIFT);
  if (control === 0) return false;
  words[area.journal] = (queue << JOURNAL_QUEUE_SHIFT) | port;
  // A port that is not linked is nobody's predecessor, not on the queue where it was the last either.
  const last = area.tails + (shorts[area.lastQueue + port]! & QUEUE_MASK);
  if (words[last] === port) words[last] = 0;
  shorts[area.lastQueue + port] = queue;
  Atomics.or(words, at, LINKED);
  const tail = words[area.tails + queue]! & EVTCHN_FIFO_LINK_MASK;
  if (tail === 0 || !setLink(words, area, tail, port)) return startQueue(target, area, queue, port);
  words[area.tails + queue] = port;
  words[area.journal] = 0;
  return false;
}

/** The queue has no other event: its head leads to the port. Can be done twice. True if an upcall is due. */
export function startQueue(target: EventTarget, area: DeliveryArea, queue: number, port: number): boolean {
  const words = target.region.i32;
  const vcpu = queue >>> QUEUES_PER_VCPU_SHIFT;
  const control = controlIndex(words, area, vcpu);
  words[area.journal] = JOURNAL_HEAD | (queue << JOURNAL_QUEUE_SHIFT) | port;
  let isDue = false;
  if (control !== 0) {
    Atomics.store(words, control + HEAD_INDEX + (queue & PRIORITY_MASK), port);
    words[area.tails + queue] = port;
    const bit = 1 << (queue & PRIORITY_MASK);
    isDue = (Atomics.or(words, control + READY_INDEX, bit) & bit) === 0;
    if (isDue) Atomics.store(target.region.u8, upcallIndex(target, vcpu), 1);
  }
  words[area.journal] = 0;
  return isDue;
}

/** Makes a word that is still linked lead to the port. False if it is not: the receiver has taken it, its queue is empty. */
export function setLink(words: Int32Array, area: DeliveryArea, tail: number, port: number): boolean {
  const at = eventWordIndex(words, area, tail);
  if (at < 0) return false;
  let word = words[at]!; // who linked it held the lock before us
  if ((word & LINKED) === 0) return false;
  if (Atomics.compareExchange(words, at, word, (word & ~(BUSY | LINK)) | port) === word) return true;
  Atomics.or(words, at, BUSY);
  for (let attempt = 0; attempt < LINK_TRIES_MAX; attempt++) {
    word = Atomics.load(words, at);
    if ((word & LINKED) === 0) break;
    if (Atomics.compareExchange(words, at, word, (word & ~(BUSY | LINK)) | port) === word) return true;
  }
  Atomics.and(words, at, ~BUSY);
  return (word & LINKED) !== 0; // its owner broke the protocol: the event is lost, as in Xen
}
