import {
  type End,
  type Exploration,
  type ExplorationCase,
  SharedMemory,
  ThreadLoop,
  type Threads,
  campaignFactor,
} from '@virtlab/explorer';
import type { EventFd } from '@virtlab/linux';
import type { PollingOptions } from '../node/adaptive-spin.ts';
import { NodeAioContext } from '../node/node-aio-context.ts';
import { createSharedDoorbell } from '../node/shared-doorbell.ts';

/**
 * The real context of Node, with its loop, its spinning and its doorbell, against senders, any of which may die before any of
 * its accesses. Only the kernel is ours: an eventfd is a word, and `setImmediate` a list.
 */
export interface DoorbellConfig {
  /** Rings of each sender. */
  readonly rings: readonly number[];
  readonly mortal?: readonly string[];
  readonly polling?: PollingOptions;
  /** The receiver first waits with `runUntil` for the first ring of the first sender. */
  readonly waitsFirst?: boolean;
  /** Having taken the first ring of the first sender it waits there, within the turn, for the first of the second. */
  readonly waitsInside?: boolean;
  /** The loop may look at the eventfd between two turns. Default true. */
  readonly looksEarly?: boolean;
  readonly planted?: Exploration['planted'];
}

const NOTIFY_ME = 0;
const EVENT = 1;
const WORK = 2;

export function doorbellMemory(senders: number): SharedMemory {
  const memory = new SharedMemory(4 * (WORK + senders));
  memory.name(4 * NOTIFY_ME, 'notifyMe').name(4 * EVENT, 'event');
  for (let sender = 1; sender <= senders; sender++) memory.name(4 * (WORK + sender - 1), `work${sender}`);
  return memory;
}

/** What a sender rang for, and lived to finish, the receiver must have taken. */
export function nothingLost(senders: number): (end: End) => string | undefined {
  return (end) => {
    for (let sender = 1; sender <= senders; sender++) {
      const finished = end.note(`finished${sender}`);
      const taken = end.note(`taken${sender}`);
      if (taken < finished) return `asleep, ${finished} rings of sender ${sender} finished, ${taken} taken`;
    }
    return undefined;
  };
}

export function doorbells(config: DoorbellConfig): Exploration {
  const {
    rings,
    mortal = [],
    polling = { maxNs: 0 },
    waitsFirst = false,
    waitsInside = false,
    looksEarly,
    planted = {},
  } = config;
  const memory = doorbellMemory(rings.length);
  const words = memory.region.i32;
  const threads = (): Threads => {
    const loop = new ThreadLoop(memory, 'event', { looksEarly: looksEarly ?? true });
    const context = new NodeAioContext({ polling }, loop.kernel);
    const eventFd = loop.eventFd as unknown as EventFd;
    const doorbell = createSharedDoorbell({ words, notifyMeIndex: NOTIFY_ME, eventFd });
    const senders = rings.map((count, index) => [
      `sender${index + 1}`,
      (shared: { note(name: string, value: number): void }): void => {
        for (let ring = 1; ring <= count; ring++) {
          Atomics.store(words, WORK + index, ring);
          doorbell.sender.ring();
          shared.note(`finished${index + 1}`, ring);
        }
      },
    ]);
    return {
      receiver: (shared) => {
        const taken = rings.map(() => 0);
        const poll = (): boolean => {
          let found = false;
          for (let index = 0; index < taken.length; index++) {
            const work = Atomics.load(words, WORK + index);
            if (work === taken[index]) continue;
            taken[index] = work;
            shared.note(`taken${index + 1}`, work);
            found = true;
            if (waitsInside && index === 0 && work === 1)
              context.runUntil(() => Atomics.load(words, WORK + 1) !== 0, Infinity);
          }
          return found;
        };
        loop.run(shared, () => {
          doorbell.receive(context, poll);
          if (waitsFirst) context.runUntil(() => Atomics.load(words, WORK) !== 0, Infinity);
        });
      },
      ...Object.fromEntries(senders),
    } as Threads;
  };
  return { memory, threads, mortal, planted, check: nothingLost(rings.length) };
}

const BUGS = [
  { name: 'notify_me is never set', planted: { lostStores: ['notifyMe'] } },
  { name: 'notify_me is set by a plain store', planted: { plainStores: ['notifyMe'] }, foundUnder: ['tso'] },
  { name: 'work is published by a plain store', planted: { plainStores: ['work1'] }, foundUnder: ['tso'] },
] as const;

function caseOf(name: string, config: DoorbellConfig): ExplorationCase {
  return {
    name: `notify_me, AioContext: ${name}`,
    exploration: doorbells(config),
    bugs: BUGS.map(({ planted, ...bug }) => ({ ...bug, exploration: doorbells({ ...config, planted }) })),
  };
}

const more = campaignFactor() > 1 ? 1 : 0;

export const explorations: readonly ExplorationCase[] = [
  caseOf('one sender', { rings: [2 + more] }),
  caseOf('two senders, who may die', { rings: [1 + more, 1], mortal: ['sender1', 'sender2'] }),
  caseOf('adaptive polling', { rings: [2 + more], polling: { maxNs: 20_000, startNs: 10_000, wakeNs: 1e9 } }),
  caseOf('adaptive polling that stays busy', {
    rings: [2 + more],
    polling: { maxNs: 20_000, startNs: 10_000, wakeNs: 1e9, staysBusy: true },
  }),
  caseOf('runUntil within a turn', { rings: [1 + more, 1], waitsInside: true }),
  caseOf('runUntil, then the loop', { rings: [2 + more], waitsFirst: true }),
];
