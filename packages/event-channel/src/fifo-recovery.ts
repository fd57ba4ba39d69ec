import { EVTCHN_FIFO_LINK_MASK } from '@virtlab/abi/event-channel';
import { DOMID_XEN } from '@virtlab/abi/xen';
import type { EventTarget } from './contract.ts';
import {
  type DeliveryArea,
  JOURNAL_HEAD,
  JOURNAL_QUEUE_SHIFT,
  LOCK_MORE,
  LOCK_OWNER_MASK,
} from './delivery-area.ts';
import { QUEUE_MASK, leave, postFifo, setLink, startQueue } from './fifo-post.ts';
import {
  BUSY,
  LINK,
  LINKED,
  MASKED,
  PENDING,
  READY_INDEX,
  controlIndex,
  eventWordIndex,
} from './fifo-words.ts';
import { upcallIndex } from './two-level.ts';

/**
 * Completes what a sender that was killed anywhere in `postFifo` had begun, while the receiver and all other senders go on:
 * takes its lock over, finishes what its journal says, and links every event that is pending, unmasked and on no queue.
 * Only when nothing of the dead domain runs any more. Wakes the receiver if there is anything for it.
 */
export function completeFifo(
  target: EventTarget,
  area: DeliveryArea,
  dead: number,
  validPorts: number,
): void {
  if (takeOver(target.region.i32, area, dead + 1, DOMID_XEN + 1)) {
    leave(target, area, DOMID_XEN + 1, finishJournal(target, area));
  }
  repostFifo(target, area, validPorts);
}

/** Links what is pending, unmasked and on no queue, and raises the upcall of vCPUs that have something to take. */
export function repostFifo(target: EventTarget, area: DeliveryArea, validPorts: number): void {
  const words = target.region.i32;
  for (let port = 1; port < validPorts; port++) {
    const at = eventWordIndex(words, area, port);
    if (at < 0) continue;
    if ((Atomics.load(words, at) & (PENDING | MASKED | LINKED)) === PENDING)
      postFifo(target, area, port, DOMID_XEN);
  }
  let isReady = false;
  for (let vcpu = 0; vcpu < area.vcpuMax; vcpu++) {
    const control = controlIndex(words, area, vcpu);
    if (control === 0 || Atomics.load(words, control + READY_INDEX) === 0) continue;
    Atomics.store(target.region.u8, upcallIndex(target, vcpu), 1);
    isReady = true;
  }
  if (isReady) target.wake();
}

/** Makes the lock of `owner` that of `heir`, with what others left in it. False if `owner` does not hold it. */
export function takeOver(words: Int32Array, area: DeliveryArea, owner: number, heir: number): boolean {
  // It changes at most once more: `LOCK_MORE` is set.
  for (let attempt = 0; attempt < 4; attempt++) {
    const held = Atomics.load(words, area.lock);
    if ((held & LOCK_OWNER_MASK) !== owner) return false;
    if (Atomics.compareExchange(words, area.lock, held, heir | (held & LOCK_MORE)) === held) return true;
  }
  return false;
}

/** True if an upcall is due. */
function finishJournal(target: EventTarget, area: DeliveryArea): boolean {
  const words = target.region.i32;
  const journal = words[area.journal]!;
  const port = journal & EVTCHN_FIFO_LINK_MASK;
  const queue = (journal >>> JOURNAL_QUEUE_SHIFT) & QUEUE_MASK;
  const at = port === 0 ? -1 : eventWordIndex(words, area, port);
  // Not linked: it had not got that far, or the receiver has taken the port since.
  if (at < 0 || (Atomics.load(words, at) & LINKED) === 0) {
    words[area.journal] = 0;
    return false;
  }
  const tail = words[area.tails + queue]! & EVTCHN_FIFO_LINK_MASK;
  if ((journal & JOURNAL_HEAD) === 0) {
    if (tail === port || (tail !== 0 && isLinkedTo(words, area, tail, port))) {
      words[area.tails + queue] = port;
      words[area.journal] = 0;
      return false;
    }
  }
  return startQueue(target, area, queue, port);
}

/** Whether the predecessor leads to the port, now at the latest. */
function isLinkedTo(words: Int32Array, area: DeliveryArea, tail: number, port: number): boolean {
  const at = eventWordIndex(words, area, tail);
  if (at < 0) return false;
  const word = Atomics.and(words, at, ~BUSY);
  if ((word & LINKED) === 0) return false;
  return (word & LINK) === port || setLink(words, area, tail, port);
}
