import {
  type Exploration,
  type ExplorationCase,
  type PlantedBug,
  type Shared,
  campaignFactor,
  rounds,
} from '@virtlab/explorer';
import { vringNeedEvent } from '../need-event.ts';

/**
 * A model of one direction, available entries and kicks; used entries and calls are its mirror image. It has what the two
 * parties share for the purpose, and what they keep: so it goes further than the queues themselves can be taken, over
 * the end of the 16-bit index too. `suppression.model.test.ts` holds it to the code.
 */
export type Mistake =
  | 'no last look'
  | 'asks before publishing'
  | 'window of one'
  | 'arms one ahead'
  | 'sleeps disabled';

export interface ModelConfig {
  readonly size: number;
  readonly batches: readonly number[];
  /** Index of the first entry. */
  readonly start: number;
  readonly eventIdx: boolean;
  /** The consumer turns doorbells off while it works (`disableKicks` … `enableKicks`). */
  readonly suppresses: boolean;
  readonly mistake?: Mistake;
  readonly planted?: Exploration['planted'];
}

const u16 = (value: number): number => value & 0xffff;

interface Producer {
  readonly batch: number;
  readonly published: number;
}

interface Consumer {
  /** Next entry to take, and the index as last read. */
  readonly next: number;
  readonly seen: number;
  /** What it has written to the event word; -1: nothing yet. */
  readonly armed: number;
  readonly isOn: boolean;
  readonly isAwake: boolean;
}

/** Publishes a batch when there is room for it, asks, rings. */
function produce(shared: Shared, config: ModelConfig, { batch, published }: Producer): Producer | undefined {
  const { mistake, eventIdx, size } = config;
  const count = config.batches[batch];
  if (count === undefined) return undefined;
  if (u16(published + count - config.start) > size) {
    // What the used ring tells the driver. It wakes by a call; here it is told each time.
    while (u16(published + count - shared.load('taken')) > size) shared.sleep('room');
  }
  const index = u16(published + count);
  const asks = (): boolean => {
    if (!eventIdx) return shared.atomicLoad('usedFlags') === 0;
    return vringNeedEvent(
      shared.atomicLoad('availEvent'),
      index,
      index - (mistake === 'window of one' ? 1 : count),
    );
  };
  const early = mistake === 'asks before publishing' && asks();
  shared.atomicStore('availIdx', index);
  if (mistake === 'asks before publishing' ? early : asks()) shared.atomicStore('kick', 1);
  return { batch: batch + 1, published: index };
}

/** One turn between "off" and "on", after waking up if it slept. */
function consume(shared: Shared, config: ModelConfig, before: Consumer): Consumer {
  const { eventIdx, suppresses, mistake } = config;
  let { next, seen, armed, isOn } = before;
  const arm = (event: number): void => {
    armed = event;
    shared.atomicStore('availEvent', mistake === 'arms one ahead' ? u16(event + 1) : event);
  };
  if (!before.isAwake) shared.sleep('kick');
  if (suppresses && isOn) {
    isOn = false;
    if (!eventIdx) shared.atomicStore('usedFlags', 1);
    else if (armed === next || armed < 0) {
      armed = next ^ 0x8000;
      shared.atomicStore('availEvent', armed);
    }
  }
  for (;;) {
    if (next === seen) {
      let index = shared.atomicLoad('availIdx');
      if (index === seen && eventIdx && isOn && armed !== seen) {
        arm(seen);
        if (mistake !== 'no last look') index = shared.atomicLoad('availIdx');
      }
      if (index === seen) break;
      seen = index;
    }
    next = u16(next + 1);
    shared.note('taken', next);
    if (isFull(config)) take(shared, next);
  }
  if (!suppresses || mistake === 'sleeps disabled') return { next, seen, armed, isOn, isAwake: false };
  if (!eventIdx) {
    if (!isOn) shared.atomicStore('usedFlags', 0);
  } else if (armed !== next) arm(next);
  isOn = true;
  if (mistake === 'no last look') return { next, seen, armed, isOn, isAwake: false };
  seen = shared.atomicLoad('availIdx');
  return { next, seen, armed, isOn, isAwake: seen !== next };
}

/** Whether the producer ever waits for room. */
function isFull({ batches, size }: ModelConfig): boolean {
  return batches.reduce((sum, count) => sum + count, 0) > size;
}

function take(shared: Shared, next: number): void {
  shared.atomicStore('taken', next);
  shared.atomicStore('room', 1);
}

export function suppression(config: ModelConfig): Exploration {
  const { start, batches } = config;
  const last = u16(start + batches.reduce((sum, count) => sum + count, 0));
  const consumer: Consumer = { next: start, seen: start, armed: -1, isOn: true, isAwake: true };
  return {
    words: {
      availIdx: start,
      availEvent: start,
      usedFlags: 0,
      kick: 0,
      taken: start,
      room: 0,
    },
    threads: {
      driver: rounds<Producer>({ batch: 0, published: start }, (shared, local) =>
        produce(shared, config, local),
      ),
      device: rounds<Consumer>(consumer, (shared, local) => consume(shared, config, local)),
    },
    planted: config.planted ?? {},
    check: (end) => {
      const taken = end.note('taken');
      return taken === last ? undefined : `asleep, ${taken} taken of ${last}`;
    },
  };
}

const sizes = campaignFactor() > 1 ? [2, 4, 8] : [2, 4];
const shapes: readonly (readonly number[])[] = [
  [1, 1, 1, 1],
  [2, 1, 2],
  [1, 2, 1, 1],
  ...(campaignFactor() > 1 ? [[1, 1, 1, 1, 1, 1, 2]] : []),
];

function mistakesFor({ eventIdx, suppresses, batches }: ModelConfig): readonly Mistake[] {
  return [
    ...(eventIdx || suppresses ? (['no last look', 'asks before publishing'] as const) : []),
    ...(eventIdx && batches.includes(2) ? (['window of one'] as const) : []),
    ...(eventIdx && batches.at(-1) === 1 ? (['arms one ahead'] as const) : []),
    ...(suppresses ? (['sleeps disabled'] as const) : []),
  ];
}

function bugsOf(config: ModelConfig): PlantedBug[] {
  const { eventIdx, suppresses } = config;
  if (!eventIdx && !suppresses) return [];
  const words = ['availIdx', eventIdx ? 'availEvent' : 'usedFlags'];
  return [
    ...mistakesFor(config).map((mistake) => ({
      name: mistake,
      exploration: suppression({ ...config, mistake }),
    })),
    ...words.map((word) => ({
      name: `${word} is stored by a plain store`,
      exploration: suppression({ ...config, planted: { plainStores: [word] } }),
      foundUnder: ['tso'] as const,
    })),
  ];
}

export const MODES: readonly Pick<ModelConfig, 'eventIdx' | 'suppresses'>[] = [false, true].flatMap(
  (eventIdx) => [false, true].map((suppresses) => ({ eventIdx, suppresses })),
);

export const explorations: readonly ExplorationCase[] = MODES.map((mode) => {
  const configs = sizes.flatMap((size) =>
    [0, 65_534].flatMap((start) => shapes.map((batches): ModelConfig => ({ size, start, batches, ...mode }))),
  );
  return {
    name: `suppression model: ${mode.eventIdx ? 'EVENT_IDX' : 'flags'}, ${mode.suppresses ? 'off while awake' : 'always on'}`,
    exploration: configs.map(suppression),
    bugs: configs.flatMap(bugsOf),
  };
});
