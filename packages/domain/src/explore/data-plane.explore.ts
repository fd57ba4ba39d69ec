import {
  VRING_AVAIL,
  VRING_USED,
  vringAvailEventOffset,
  vringUsedEventOffset,
} from '@virtlab/abi/virtio-ring';
import {
  type End,
  type Exploration,
  type ExplorationCase,
  type PlantedBug,
  type SharedMemory,
  type Threads,
  campaignFactor,
} from '@virtlab/explorer';
import { CallService, QueueService, type RingPair, createRingPair } from '@virtlab/virtio/testing';
import { type Party, type Wire, createParties, machineMemory } from './two-domains.explore.ts';

/**
 * The whole way of a request, in one exploration: publish, `needsKick`, the wire (pending bit, selector, upcall, or posted bits),
 * the doorbell with its `notify_me`, the sleeping loop of the other domain, dispatch, kicks off, pop, push, kicks on; and back
 * the same way as a call. Everything is product code. At the end both domains sleep, and every request must have come back.
 */
interface Config {
  readonly wire: Wire;
  readonly eventIdx: boolean;
  /** The rings are looked at in every turn of the loops, with doorbells off meanwhile. */
  readonly isPolled: boolean;
  /** Requests in each round; the next round is submitted when all of the last came back. */
  readonly rounds: readonly number[];
  /** Histories after which a domain sleeps with the same state are one. Default true. */
  readonly isMerged?: boolean;
  readonly planted?: Exploration['planted'];
}

const QUEUE_SIZE = 2;
/** Two rounds over an event channel have 1.6 million states. */
const STATE_LIMIT = 2_500_000;

export function dataPlane(config: Config): Exploration {
  const { wire, eventIdx, rounds, planted = {} } = config;
  const memory = machineMemory();
  const total = rounds.reduce((sum, count) => sum + count, 0);
  const threads = (): Threads => {
    const pair = createRingPair(memory.region, QUEUE_SIZE, { indirect: false, eventIdx });
    nameRing(memory, pair);
    const [driver, device] = createParties(memory, wire);
    return {
      driver: driverThread(config, pair, driver),
      device: deviceThread(config, pair, device),
    };
  };
  const lost = (end: End): string | undefined => {
    const completed = end.note('completed');
    return completed === total ? undefined : `both domains asleep, ${completed} of ${total} came back`;
  };
  return { memory, threads, planted, check: lost, stateLimit: STATE_LIMIT };
}

function nameRing(memory: SharedMemory, { driver }: RingPair): void {
  const available = Number(driver.addresses.driverArea);
  const used = Number(driver.addresses.deviceArea);
  memory
    .name(available + VRING_AVAIL.offset.flags, 'avail.flags')
    .name(available + VRING_AVAIL.offset.idx, 'avail.idx')
    .name(available + vringUsedEventOffset(QUEUE_SIZE), 'used_event')
    .name(used + VRING_USED.offset.flags, 'used.flags')
    .name(used + VRING_USED.offset.idx, 'used.idx')
    .name(used + vringAvailEventOffset(QUEUE_SIZE), 'avail_event');
}

function driverThread(
  { rounds, isPolled, isMerged = true }: Config,
  pair: RingPair,
  party: Party,
): Threads[string] {
  return (shared) => {
    const { driver, request } = pair;
    const calls = new CallService(party.aio, [driver], isPolled, () => {
      throw new Error(driver.violation?.message);
    });
    let completed = 0;
    let round = 0;
    const submit = (): void => {
      const count = rounds[round] ?? 0;
      round += 1;
      for (let each = 0; each < count; each++) driver.add(request, each);
      if (count > 0 && calls.needsKick(0, driver)) party.ring();
    };
    const onCall = (): void => {
      while (driver.popUsed() >= 0) {
        completed += 1;
        shared.note('completed', completed);
        if (driver.inFlightCount === 0) submit();
      }
    };
    const start = (): void => {
      calls.setHandler(0, onCall);
      party.schedule(submit);
    };
    // Asleep, calls are on and everything seen was taken; `used_event` is in memory.
    const settledAs = isMerged ? () => `${round} ${completed}` : undefined;
    party.run(shared, { start, onRing: () => calls.called(0), settledAs });
  };
}

function deviceThread({ isPolled, isMerged = true }: Config, pair: RingPair, party: Party): Threads[string] {
  return (shared) => {
    const fail = (error: unknown): never => {
      throw error;
    };
    const processQueue = (index: number): void => {
      const queue = service.queues[index]!;
      let isWork = false;
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
        queue.push(chain, 0);
        isWork = true;
      }
      if (isWork) service.complete(index);
    };
    const served = { queueSizesMax: [QUEUE_SIZE], processQueue };
    const service = new QueueService(
      served as unknown as ConstructorParameters<typeof QueueService>[0],
      party.aio,
      isPolled,
      { onViolation: (_queue, violation) => fail(new Error(violation.message)), onError: fail },
    );
    service.setQueue(0, pair.device);
    const settledAs = isMerged ? () => `${service.statistics[0]!.requests}` : undefined;
    party.run(shared, {
      start: () => service.start(() => party.ring()),
      onRing: () => service.kick(0),
      settledAs,
    });
  };
}

function bugsOf(config: Config): PlantedBug[] {
  const plant = (name: string, planted: NonNullable<Config['planted']>, foundUnder?: 'tso'): PlantedBug => ({
    name,
    exploration: dataPlane({ ...config, planted }),
    ...(foundUnder && { foundUnder: [foundUnder] }),
  });
  return [
    plant('the device never sets notify_me', { lostStores: ['notifyMe device'] }),
    plant('the driver never sets notify_me', { lostStores: ['notifyMe driver'] }),
    plant('notify_me of the device is a plain store', { plainStores: ['notifyMe device'] }, 'tso'),
  ];
}

const WIRES = ['event channel', 'posted bits'] as const;
/** The last two are large. */
const SHAPES: readonly Pick<Config, 'rounds' | 'isPolled'>[] = [
  { rounds: [1], isPolled: false },
  { rounds: [2], isPolled: false },
  { rounds: [1], isPolled: true },
  ...(campaignFactor() > 1
    ? [
        { rounds: [2], isPolled: true },
        { rounds: [1, 1], isPolled: false },
      ]
    : []),
];

export const explorations: readonly ExplorationCase[] = WIRES.flatMap((wire) =>
  [false, true].map((eventIdx): ExplorationCase => {
    const configs = SHAPES.map((shape): Config => ({ wire, eventIdx, ...shape }));
    return {
      name: `two domains: ring to ring by ${wire}, ${eventIdx ? 'EVENT_IDX' : 'flags'}`,
      exploration: configs.map(dataPlane),
      bugs: bugsOf(configs[0]!),
    };
  }),
);
