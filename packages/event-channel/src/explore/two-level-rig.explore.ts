import { SHARED_INFO } from '@virtlab/abi/event-channel';
import { type Exploration, type Shared, SharedMemory, type Threads } from '@virtlab/explorer';
import type { EventTarget } from '../contract.ts';
import { PendingScanner } from '../pending-scanner.ts';
import { MASK_INDEX, PENDING_INDEX, maskPort, selectorIndex, setPending, upcallIndex } from '../two-level.ts';

/**
 * The data plane as it stands, over watched memory: senders, and a domain that sleeps until its doorbell was rung, which is
 * a word that stays set as an eventfd does. What an event announces is a word too: `SENT` before the send, copied to `SEEN` by
 * the handler. Ports 3, 4 and 40 share a
 * selector bit, 70 does not; 3 and 4 share a half of a word.
 */
const PORTS = [3, 4, 40, 70] as const;
const DOORBELL = SHARED_INFO.size / 4;
const SENT = DOORBELL + 1;
const SEEN = SENT + 80;

const memory = new SharedMemory(4096);
export const region = memory.region;
export const words: Int32Array = region.i32;
export const target: EventTarget = {
  region,
  sharedInfoOffset: 0,
  wake: () => void Atomics.store(words, DOORBELL, 1),
};

memory.name(DOORBELL * 4, 'doorbell');
memory.name(selectorIndex(target, 0) * 4, 'selector').name(upcallIndex(target, 0), 'upcall');
for (const port of PORTS)
  memory.name((SENT + port) * 4, `sent ${port}`).name((SEEN + port) * 4, `seen ${port}`);
for (const half of [0, 1, 2]) {
  memory.name((PENDING_INDEX + half) * 4, `pending ${half}`).name((MASK_INDEX + half) * 4, `mask ${half}`);
}

export type Post = (port: number) => void;
/** What a domain does when it is awake. */
export type Dispatch = () => void;

export const post: Post = (port) => setPending(target, port, 0);

export function handle(port: number): boolean {
  Atomics.store(words, SEEN + port, Atomics.load(words, SENT + port));
  return true;
}

/** The dispatch of a domain that has just booted; it keeps state, so each run of a thread makes its own. */
export function realDispatch(): Dispatch {
  const scanner = new PendingScanner(target, 0, handle);
  return () => void (scanner.hasPending() && scanner.round());
}

export function sender(port: number, count: number, send: Post = post): () => void {
  return () => {
    for (let value = 1; value <= count; value++) {
      Atomics.store(words, SENT + port, value);
      send(port);
    }
  };
}

/** Sleeps and dispatches for ever, after it did `first`. */
export function domain(
  makeDispatch: () => Dispatch = realDispatch,
  first: (dispatch: Dispatch) => void = () => {},
) {
  const dispatch = makeDispatch();
  return (shared: Shared): void => {
    first(dispatch);
    for (;;) {
      shared.sleep('doorbell');
      dispatch();
    }
  };
}

/** Nobody can move any more, so the domain sleeps: everything announced must have been seen. */
function lost(): string | undefined {
  for (const port of PORTS) {
    const [sent, seen] = [words[SENT + port]!, words[SEEN + port]!];
    if (sent !== seen) return `asleep, port ${port}: ${sent} was announced, ${seen} seen`;
  }
  return undefined;
}

export function exploration(
  threads: () => Threads,
  more: { readonly masked?: readonly number[]; readonly mortal?: readonly string[] } = {},
): Exploration {
  return {
    memory,
    setup: () => {
      for (const port of more.masked ?? []) maskPort(target, port);
    },
    threads,
    mortal: more.mortal ?? [],
    check: lost,
  };
}
