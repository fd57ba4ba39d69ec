import { EVTCHN_FIFO_PRIORITY_DEFAULT } from '@virtlab/abi/event-channel';
import { link, setLink } from '../fifo-post.ts';
import { HEAD_INDEX, LINK, LINKED, MASKED, PENDING, READY_INDEX } from '../fifo-words.ts';
import { upcallIndex } from '../two-level.ts';
import {
  ARRAY,
  CONTROL,
  type Machine,
  type Post,
  area,
  handle,
  memory,
  post,
  target,
  words,
} from './fifo-rig.explore.ts';

/** The same steps in a wrong order, or one of them left out. */
const QUEUE = EVTCHN_FIFO_PRIORITY_DEFAULT;
const HEAD = CONTROL + HEAD_INDEX + QUEUE;
const READY = CONTROL + READY_INDEX;

function raise(): void {
  if ((Atomics.or(words, READY, 1 << QUEUE) & (1 << QUEUE)) !== 0) return;
  Atomics.store(memory.region.u8, upcallIndex(target, 0), 1);
  target.wake();
}

/** One sender alone, so no lock. */
export const headAfterReady: Post = (port) => {
  const before = Atomics.or(words, ARRAY + port, PENDING);
  if ((before & (MASKED | LINKED)) !== 0) return;
  Atomics.or(words, ARRAY + port, LINKED);
  const tail = words[area.tails + QUEUE]!;
  if (tail !== 0 && tail !== port && setLink(words, area, tail, port)) return;
  raise();
  Atomics.store(words, HEAD, port);
  words[area.tails + QUEUE] = port;
};

export const linkedWithoutLock: Post = (port) => {
  const before = Atomics.or(words, ARRAY + port, PENDING);
  if ((before & (MASKED | LINKED)) !== 0) return;
  if (link(target, area, port)) target.wake();
};

export const linkedWithoutTail: Post = (port, from) => {
  Atomics.store(words, area.tails + QUEUE, 0);
  post(port, from);
};

export const releaseAtOnce: Post = (port, from) => {
  const before = Atomics.or(words, ARRAY + port, PENDING);
  if ((before & (MASKED | LINKED)) !== 0) return;
  if (Atomics.compareExchange(words, area.lock, 0, from + 1) === 0) {
    const isDue = link(target, area, port);
    Atomics.store(words, area.lock, 0);
    if (isDue) target.wake();
    return;
  }
  Atomics.or(words, area.deferred, 1 << port);
  Atomics.or(words, area.summary, 1);
};

export const lookBeforeUnlink = (_machine: Machine) => (): void => {
  const { u8 } = memory.region;
  if (Atomics.load(u8, upcallIndex(target, 0)) === 0) return;
  Atomics.store(u8, upcallIndex(target, 0), 0);
  if (Atomics.exchange(words, READY, 0) === 0) return;
  const port = Atomics.load(words, HEAD) & LINK;
  const isPending = (Atomics.and(words, ARRAY + port, ~PENDING) & PENDING) !== 0;
  if (isPending) handle(port);
  Atomics.and(words, ARRAY + port, ~(LINKED | LINK));
};

export function pendingBeforeUnmask(port: number): void {
  const isPending = (Atomics.load(words, ARRAY + port) & PENDING) !== 0;
  Atomics.and(words, ARRAY + port, ~MASKED);
  if (isPending) post(port, 2);
}
