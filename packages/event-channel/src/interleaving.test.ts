import { SHARED_INFO } from '@virtlab/abi/event-channel';
import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import type { EventTarget } from './contract.ts';
import { type ExplorationResult, exploreInterleavings } from './explore-interleavings.ts';
import { PendingScanner } from './pending-scanner.ts';
import {
  MASK_INDEX,
  PENDING_INDEX,
  WORD_SHIFT,
  clearPending,
  maskPort,
  repostPending,
  selectorIndex,
  setPending,
  unmaskPort,
  upcallIndex,
} from './two-level.ts';

/**
 * The doorbell is a sticky word, as an eventfd is; a sleeping domain looks at nothing else. What an event announces is a
 * word too: `SENT` before the send, copied to `SEEN` by the handler. Ports 3 and 40 share a selector bit, 70 does not.
 */
const DOORBELL = SHARED_INFO.size / 4;
const SENT = DOORBELL + 1;
const SEEN = SENT + 80;
const PORTS = [3, 40, 70] as const;

const region = memoryRegion(new ArrayBuffer(4096));
const words = region.i32;
const target: EventTarget = {
  region,
  sharedInfoOffset: 0,
  wake: () => void Atomics.store(words, DOORBELL, 1),
};

const handle = (port: number): boolean => {
  Atomics.store(words, SEEN + port, Atomics.load(words, SENT + port));
  return true;
};

type Send = (port: number) => void;
type Dispatch = () => void;

const send: Send = (port) => setPending(target, port, 0);
const unmask: Send = (port) => unmaskPort(target, port, 0);
const dispatch: Dispatch = () => void new PendingScanner(target, 0, handle).round();

const sender =
  (port: number, count: number, post: Send = send) =>
  () => {
    for (let value = 1; value <= count; value++) {
      Atomics.store(words, SENT + port, value);
      post(port);
    }
  };

/** Wakes up: takes the doorbell, dispatches if an upcall is pending. */
const wakeUp = (run: Dispatch = dispatch): void => {
  Atomics.store(words, DOORBELL, 0);
  if (Atomics.load(region.u8, upcallIndex(target, 0)) !== 0) run();
};

/** Lets the domain sleep and wake until its doorbell is quiet; then everything announced must have been seen. */
const nothingLost = (run: Dispatch = dispatch): string | undefined => {
  for (let round = 0; Atomics.load(words, DOORBELL) !== 0; round++) {
    if (round > 10) return 'the doorbell never falls silent';
    wakeUp(run);
  }
  for (const port of PORTS) {
    const [sent, seen] = [words[SENT + port]!, words[SEEN + port]!];
    if (sent !== seen) return `port ${port}: ${sent} was announced, ${seen} seen`;
  }
  return undefined;
};

interface Options {
  readonly masked?: readonly number[];
  readonly dispatch?: Dispatch;
  readonly killedAfter?: Readonly<Record<number, number>>;
  /** Happens when all threads have ended, before the domain sleeps. */
  readonly beforeSleep?: () => void;
}

function explore(threads: readonly (() => void)[], options: Options = {}): ExplorationResult {
  words.fill(0);
  for (const port of options.masked ?? []) maskPort(target, port);
  return exploreInterleavings({
    words: words.subarray(0, SEEN + 80),
    threads,
    killedAfter: options.killedAfter ?? {},
    check: () => {
      options.beforeSleep?.();
      return nothingLost(options.dispatch);
    },
  });
}

describe('no event is lost in any interleaving', () => {
  it.each([
    { name: 'two sends, two dispatches', threads: [sender(3, 2), () => (wakeUp(), wakeUp())] },
    { name: 'two senders of one selector bit', threads: [sender(3, 1), sender(40, 1), () => wakeUp()] },
    { name: 'two senders of one half', threads: [sender(3, 1), sender(3, 1), () => wakeUp()] },
    { name: 'two senders of two selector bits', threads: [sender(3, 1), sender(70, 1), () => wakeUp()] },
    {
      name: 'mask, dispatch, unmask against two sends',
      threads: [sender(3, 2), () => (maskPort(target, 3), wakeUp(), unmask(3), wakeUp())],
    },
    { name: 'unmask against a send', threads: [sender(3, 1), () => unmask(3)], masked: [3] },
    {
      name: 'unmask against sends and a dispatch',
      threads: [sender(3, 2), () => unmask(3), () => wakeUp()],
      masked: [3],
    },
    {
      name: 'a repost after another domain died, against a send and a dispatch',
      threads: [sender(3, 1), () => repostPending(target, 0), () => wakeUp()],
    },
  ])(
    '$name',
    ({ threads, masked }) => {
      const result = explore(threads, masked === undefined ? {} : { masked });
      expect(result.failure).toBeUndefined();
      expect(result.endCount).toBeGreaterThan(1);
      expect(result.stateCount).toBeGreaterThan(20);
    },
    20_000,
  );

  it.each([0, 1, 2, 3, 4])(
    'a sender killed after %i steps silences nobody once the hypervisor has reposted',
    (steps) => {
      const result = explore([() => send(40), sender(3, 1)], {
        killedAfter: { 0: steps },
        beforeSleep: () => repostPending(target, 0),
      });
      expect(result.failure).toBeUndefined();
    },
  );
});

const bit = (port: number): number => 1 << (port & 31);

function select(port: number): void {
  const word = 1 << (port >>> WORD_SHIFT);
  if ((Atomics.or(words, selectorIndex(target, 0), word) & word) !== 0) return;
  Atomics.store(region.u8, upcallIndex(target, 0), 1);
  target.wake();
}

/** Takes the selector and looks at port 3 alone. */
function scan(run: (port: number) => void): void {
  Atomics.exchange(words, selectorIndex(target, 0), 0);
  const pending = Atomics.load(words, PENDING_INDEX) & ~Atomics.load(words, MASK_INDEX);
  if ((pending & bit(3)) !== 0) run(3);
}

function clearAndHandle(port: number): void {
  clearPending(target, port);
  handle(port);
}

function selectBeforePending(port: number): void {
  select(port);
  Atomics.or(words, PENDING_INDEX, bit(port));
}

function maskBeforePending(port: number): void {
  const isMasked = (Atomics.load(words, MASK_INDEX) & bit(port)) !== 0;
  if ((Atomics.or(words, PENDING_INDEX, bit(port)) & bit(port)) === 0 && !isMasked) select(port);
}

function pendingBeforeUnmask(): void {
  const isPending = (Atomics.load(words, PENDING_INDEX) & bit(3)) !== 0;
  Atomics.and(words, MASK_INDEX, ~bit(3));
  if (isPending) select(3);
}

function upcallAfterSelector(): void {
  scan(clearAndHandle);
  Atomics.store(region.u8, upcallIndex(target, 0), 0);
}

function clearAfterHandler(): void {
  Atomics.store(region.u8, upcallIndex(target, 0), 0);
  scan((port) => {
    handle(port);
    clearPending(target, port);
  });
}

function lowHalfOnly(): void {
  Atomics.store(region.u8, upcallIndex(target, 0), 0);
  scan(clearAndHandle);
}

describe('a planted bug is found', () => {
  it('a sender that sets the selector before the pending bit', () => {
    expect(explore([sender(3, 1, selectBeforePending), () => wakeUp()]).failure).toBeDefined();
  });

  it('a sender that reads the mask before it sets the pending bit', () => {
    const threads = [sender(3, 1, maskBeforePending), () => unmask(3)];
    expect(explore(threads, { masked: [3] }).failure).toBeDefined();
  });

  it('an unmask that looks for a pending event before it clears the mask', () => {
    expect(explore([sender(3, 1), pendingBeforeUnmask], { masked: [3] }).failure).toBeDefined();
  });

  it.each([
    { bug: 'that lowers the upcall after it took the selector', run: upcallAfterSelector, port: 3 },
    { bug: 'that clears the pending bit after the handler', run: clearAfterHandler, port: 3 },
    { bug: 'that scans only one half of a word', run: lowHalfOnly, port: 40 },
  ])('a dispatch $bug', ({ run, port }) => {
    const threads = [sender(port, 2), () => (wakeUp(run), wakeUp(run))];
    expect(explore(threads, { dispatch: run }).failure).toBeDefined();
  });

  it('the model itself is not at fault: with none of them the same dispatch loses nothing', () => {
    const threads = [sender(3, 2), () => (wakeUp(lowHalfOnly), wakeUp(lowHalfOnly))];
    expect(explore(threads, { dispatch: lowHalfOnly }).failure).toBeUndefined();
  });

  it('a killed sender after which nothing is reposted', () => {
    const failures = [1, 2, 3, 4].filter(
      (steps) => explore([() => send(40), sender(3, 1)], { killedAfter: { 0: steps } }).failure !== undefined,
    );
    expect(failures).toEqual([3, 4]);
  });
});
