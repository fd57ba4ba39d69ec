import {
  type Exploration,
  type ExplorationCase,
  type PlantedBug,
  type Shared,
  type Thread,
  campaignFactor,
  rounds,
} from '@virtlab/explorer';
import { nothingLost } from './doorbell.explore.ts';

/**
 * The doorbell protocol as a model: what the context and its senders share, and nothing else, so it goes further than the
 * code can be taken. `notify-me.model.test.ts` holds it to the code. The question: can the receiver sleep for good while a
 * sender that has finished its ring left work?
 */
export type Mistake = 'no last look' | 'set after the last look' | 'a sender takes it back';

export interface ModelConfig {
  readonly senders: number;
  readonly ringsPerSender: number;
  readonly deaths: boolean;
  readonly mistake?: Mistake;
  readonly planted?: Exploration['planted'];
}

interface Receiver {
  readonly taken: readonly number[];
  readonly isPolling: boolean;
}

/** Takes what is visible. */
function poll(shared: Shared, { taken }: Receiver): readonly number[] {
  return taken.map((_, index) => {
    const work = shared.atomicLoad(`work${index + 1}`);
    shared.note(`taken${index + 1}`, work);
    return work;
  });
}

const isSame = (a: readonly number[], b: readonly number[]): boolean => a.every((each, at) => each === b[at]);

/** A turn of the loop, and what comes before the next one. */
function turn(shared: Shared, { mistake }: ModelConfig, before: Receiver): Receiver {
  if (!before.isPolling) shared.atomicStore('notifyMe', 0);
  const taken = poll(shared, before);
  if (!isSame(taken, before.taken)) return { taken, isPolling: true };
  if (mistake !== 'set after the last look') shared.atomicStore('notifyMe', 1);
  const last = mistake === 'no last look' ? taken : poll(shared, before);
  if (mistake === 'set after the last look') shared.atomicStore('notifyMe', 1);
  if (!isSame(last, taken)) {
    shared.atomicStore('notifyMe', 0);
    return { taken: last, isPolling: true };
  }
  shared.waitFor('event');
  shared.exchange('event', 0);
  return { taken: last, isPolling: false };
}

function sender(number: number, { ringsPerSender, mistake }: ModelConfig): Thread {
  return rounds<number>(1, (shared, ring) => {
    shared.atomicStore(`work${number}`, ring);
    if (shared.atomicLoad('notifyMe') !== 0) {
      if (mistake === 'a sender takes it back') shared.atomicStore('notifyMe', 0);
      shared.atomicStore('event', 1);
    }
    shared.note(`finished${number}`, ring);
    return ring < ringsPerSender ? ring + 1 : undefined;
  });
}

export function notifyMe(config: ModelConfig): Exploration {
  const numbers = Array.from({ length: config.senders }, (_, index) => index + 1);
  const start: Receiver = { taken: numbers.map(() => 0), isPolling: false };
  return {
    words: { notifyMe: 0, event: 0, ...Object.fromEntries(numbers.map((number) => [`work${number}`, 0])) },
    threads: {
      receiver: rounds<Receiver>(start, (shared, before) => turn(shared, config, before)),
      ...Object.fromEntries(numbers.map((number) => [`sender${number}`, sender(number, config)])),
    },
    mortal: config.deaths ? numbers.map((number) => `sender${number}`) : [],
    planted: config.planted ?? {},
    check: nothingLost(config.senders),
  };
}

const far = campaignFactor() > 1 ? 1 : 0;
const large: ModelConfig = { senders: 2, ringsPerSender: 2 + far, deaths: true };
const small: ModelConfig = { senders: 1, ringsPerSender: 1, deaths: false };
const TSO = ['tso'] as const;

const bugsOf = (config: ModelConfig): PlantedBug[] => [
  ...(['no last look', 'set after the last look'] as const).map((mistake) => ({
    name: mistake,
    exploration: notifyMe({ ...config, mistake }),
  })),
  ...['notifyMe', 'work1'].map((word) => ({
    name: `${word} is stored by a plain store`,
    exploration: notifyMe({ ...config, planted: { plainStores: [word] } }),
    foundUnder: TSO,
  })),
];

export const explorations: readonly ExplorationCase[] = [
  {
    name: 'notify_me, model: two senders, who may die',
    exploration: notifyMe(large),
    bugs: [
      ...bugsOf(large),
      {
        name: 'a sender takes notify_me back, and dies before it writes',
        exploration: notifyMe({ ...large, mistake: 'a sender takes it back' }),
      },
    ],
  },
  { name: 'notify_me, model: one sender, one ring', exploration: notifyMe(small), bugs: bugsOf(small) },
  {
    name: 'notify_me, model: three senders',
    exploration: notifyMe({ senders: 3, ringsPerSender: 1 + far, deaths: false }),
    bugs: [],
  },
  {
    name: 'notify_me, model: taking notify_me back, when nobody dies',
    exploration: notifyMe({ ...large, deaths: false, mistake: 'a sender takes it back' }),
    bugs: [],
  },
];
