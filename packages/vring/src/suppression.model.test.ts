import { describe, expect, it } from 'vitest';
import { vringNeedEvent } from './need-event.ts';

/**
 * A model of one direction (available entries and kicks; used entries and calls are its mirror image), one step for
 * each access to a shared word, in the order in which the queues make them. Every interleaving of the two parties is
 * explored; a state in which nobody can move while entries wait is a lost wake-up.
 */
interface State {
  /** Shared: published index, event word, flags word; and the doorbell. */
  idx: number;
  event: number;
  noDoorbell: boolean;
  bell: boolean;
  /** Producer: step, batches published, and, for the planted bug, the decision made too early. */
  producer: 'publish' | 'ask' | 'ring' | 'early';
  batches: number;
  early: boolean;
  /** Consumer: step, next entry, entries seen, and what it wrote to the event word (-1: nothing yet). */
  consumer: 'disable' | 'pop' | 'arm' | 'recheck' | 'sleep';
  next: number;
  seen: number;
  armed: number;
}

type Bug = 'no re-check' | 'asks before publishing' | 'window of one' | 'arms one ahead' | 'sleeps disabled';

interface Config {
  readonly size: number;
  readonly batches: readonly number[];
  readonly start: number;
  readonly eventIdx: boolean;
  /** The consumer turns doorbells off while it works (`disableKicks` … `enableKicks`). */
  readonly suppresses: boolean;
  readonly bug?: Bug;
}

const u16 = (value: number): number => value & 0xffff;

function producerSteps(state: State, config: Config): State[] {
  const batch = config.batches[state.batches];
  const wanted = (event: number, noDoorbell: boolean, count: number): boolean =>
    config.eventIdx
      ? vringNeedEvent(event, state.idx, u16(state.idx - (config.bug === 'window of one' ? 1 : count)))
      : !noDoorbell;
  switch (state.producer) {
    case 'early':
    case 'publish': {
      if (batch === undefined || u16(state.idx + batch - state.next) > config.size) return [];
      if (config.bug === 'asks before publishing' && state.producer === 'publish') {
        const after = { ...state, idx: u16(state.idx + batch) };
        const early = config.eventIdx ? vringNeedEvent(state.event, after.idx, state.idx) : !state.noDoorbell;
        return [{ ...state, producer: 'early', early }];
      }
      return [{ ...state, idx: u16(state.idx + batch), producer: 'ask' }];
    }
    case 'ask': {
      const early = config.bug === 'asks before publishing';
      const ring = early ? state.early : wanted(state.event, state.noDoorbell, batch!);
      return [{ ...state, batches: state.batches + 1, producer: ring ? 'ring' : 'publish' }];
    }
    case 'ring':
      return [{ ...state, bell: true, producer: 'publish' }];
  }
}

function consumerSteps(state: State, config: Config): State[] {
  const { next, seen } = state;
  switch (state.consumer) {
    case 'sleep':
      return state.bell ? [{ ...state, bell: false, consumer: config.suppresses ? 'disable' : 'pop' }] : [];
    case 'disable':
      if (!config.eventIdx) return [{ ...state, noDoorbell: true, consumer: 'pop' }];
      if (state.armed !== next) return [{ ...state, consumer: 'pop' }];
      return [{ ...state, event: next ^ 0x8000, armed: next ^ 0x8000, consumer: 'pop' }];
    case 'pop': {
      if (next !== seen) return [{ ...state, next: u16(next + 1) }];
      if (state.idx !== seen) return [{ ...state, seen: state.idx }];
      if (config.bug === 'sleeps disabled') return [{ ...state, consumer: 'sleep' }];
      const quiet = config.eventIdx ? state.armed === next : !config.suppresses;
      if (!config.suppresses && quiet) return [{ ...state, consumer: 'sleep' }];
      return [{ ...state, consumer: 'arm' }];
    }
    case 'arm': {
      const event = config.bug === 'arms one ahead' ? u16(next + 1) : next;
      const armed = config.eventIdx ? { event, armed: next } : { noDoorbell: false };
      return [{ ...state, ...armed, consumer: config.bug === 'no re-check' ? 'sleep' : 'recheck' }];
    }
    case 'recheck': {
      if (state.idx === next) return [{ ...state, consumer: 'sleep' }];
      return [{ ...state, seen: state.idx, consumer: config.suppresses ? 'disable' : 'pop' }];
    }
  }
}

/** Number of states, and the first one in which a wake-up is lost. */
function explore(config: Config): { states: number; lost: State | undefined } {
  const first: State = {
    idx: config.start,
    event: config.start,
    noDoorbell: false,
    bell: false,
    producer: 'publish',
    batches: 0,
    early: false,
    consumer: config.suppresses ? 'disable' : 'pop',
    next: config.start,
    seen: config.start,
    armed: -1,
  };
  const known = new Set([JSON.stringify(first)]);
  const queue = [first];
  for (let state = queue.pop(); state !== undefined; state = queue.pop()) {
    const following = [...producerSteps(state, config), ...consumerSteps(state, config)];
    const finished = state.batches === config.batches.length && state.next === state.idx;
    if (following.length === 0 && !finished) return { states: known.size, lost: state };
    for (const after of following) {
      const key = JSON.stringify(after);
      if (known.has(key)) continue;
      known.add(key);
      queue.push(after);
    }
  }
  return { states: known.size, lost: undefined };
}

const configs = [2, 3, 4].flatMap((size) =>
  [0, 65_534].flatMap((start) =>
    [
      [1, 1, 1, 1],
      [2, 1, 2],
      [1, 2, 1, 1],
    ].flatMap((batches) =>
      [false, true].flatMap((eventIdx) =>
        [false, true].map((suppresses): Config => ({ size, start, batches, eventIdx, suppresses })),
      ),
    ),
  ),
);

describe('suppression, every interleaving', () => {
  it('§2.7.7, §2.7.10 no wake-up is lost: flags and event index, with and without turning doorbells off', () => {
    let states = 0;
    for (const config of configs) {
      const result = explore(config);
      states += result.states;
      if (result.lost !== undefined)
        throw new Error(`${JSON.stringify(config)} ends in ${JSON.stringify(result.lost)}`);
    }
    expect(states).toBeGreaterThan(5_000);
  });

  const bugs: readonly (readonly [Bug, (config: Config) => boolean])[] = [
    ['no re-check', (config) => config.eventIdx || config.suppresses],
    ['asks before publishing', (config) => config.eventIdx || config.suppresses],
    ['window of one', (config) => config.eventIdx && config.batches.includes(2)],
    ['arms one ahead', (config) => config.eventIdx && config.batches.at(-1) === 1],
    ['sleeps disabled', (config) => config.suppresses],
  ];
  for (const [bug, applies] of bugs) {
    it(`the model finds a planted bug: ${bug}`, () => {
      const planted = configs.filter(applies);
      expect(planted.length).toBeGreaterThan(0);
      for (const config of planted) {
        if (explore({ ...config, bug }).lost === undefined)
          throw new Error(`not found in ${JSON.stringify(config)}`);
      }
    });
  }
});
