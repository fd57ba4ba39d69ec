import {
  vringAvailEventOffset,
  VRING_AVAIL,
  VRING_PACKED_DESC,
  VRING_USED,
  vringUsedEventOffset,
} from '@virtlab/abi/virtio-ring';
import {
  type Exploration,
  type ExplorationCase,
  type PlantedBug,
  type Shared,
  SharedMemory,
  type Threads,
  campaignFactor,
} from '@virtlab/explorer';
import { IdentityDeviceMemory, IdentityDmaMapper } from '@virtlab/guest-memory';
import { createBufferList } from '../buffer-list.ts';
import type { DeviceQueue, DriverQueue, QueueAddresses, RingFeatures } from '../contract.ts';
import { createDeviceQueue } from '../device-queue.ts';
import { createDriverQueue } from '../driver-queue.ts';

/**
 * The real queues: every access to the rings is a step, descriptors and entries included, and under `tso` plain stores are
 * buffered. A party sleeps whenever it is allowed to and wakes by its doorbell only. At the end everything must have come
 * back, with the right contents.
 */
const MEMORY_SIZE = 1 << 14;
const BUFFERS = 0x3000;
const KICK = MEMORY_SIZE;
const CALL = KICK + 4;

export interface Plan {
  readonly features: RingFeatures;
  readonly size: number;
  /** Requests in each batch. */
  readonly batches: readonly number[];
  /** Turns doorbells off while awake. */
  readonly suppresses: boolean;
  /** Planted: sleeps without heeding what `enableKicks` and `enableCalls` answered. */
  readonly isCareless?: boolean;
  readonly planted?: Exploration['planted'];
}

/** The two halves on fresh memory, and their words by name. */
export function createHalves(
  { size, features }: Pick<Plan, 'size' | 'features'>,
  memory: SharedMemory,
): { driver: DriverQueue; device: DeviceQueue } {
  const { region } = memory;
  const driver = createDriverQueue({ size, dma: new IdentityDmaMapper(region), features });
  const made = createDeviceQueue({
    addresses: driver.addresses,
    memory: new IdentityDeviceMemory([{ guestAddress: 0n, region }]),
    features,
  });
  if (!made.ok) throw new Error(made.violation.message);
  if (features.packed === true) namePackedWords(memory, driver.addresses);
  else nameSplitWords(memory, driver.addresses);
  return { driver, device: made.queue };
}

function nameSplitWords(memory: SharedMemory, { size, driverArea, deviceArea }: QueueAddresses): void {
  const available = Number(driverArea);
  const used = Number(deviceArea);
  memory
    .name(available + VRING_AVAIL.offset.flags, 'availFlags')
    .name(available + VRING_AVAIL.offset.idx, 'availIdx')
    .name(available + vringUsedEventOffset(size), 'usedEvent')
    .name(used + VRING_USED.offset.flags, 'usedFlags')
    .name(used + VRING_USED.offset.idx, 'usedIdx')
    .name(used + vringAvailEventOffset(size), 'availEvent');
}

/** Each is a word that is accessed as a whole: id and flags of a slot, offset and flags of an event area. */
function namePackedWords(memory: SharedMemory, addresses: QueueAddresses): void {
  const ring = Number(addresses.descriptorArea);
  memory.name(Number(addresses.driverArea), 'driverEvent').name(Number(addresses.deviceArea), 'deviceEvent');
  for (let slot = 0; slot < addresses.size; slot++)
    memory.name(ring + slot * VRING_PACKED_DESC.size + VRING_PACKED_DESC.offset.id, `slot ${slot}`);
}

export function ringMemory(): SharedMemory {
  return new SharedMemory(MEMORY_SIZE + 8).name(KICK, 'kick').name(CALL, 'call');
}

export function queues(plan: Plan): Exploration {
  const memory = ringMemory();
  const total = plan.batches.reduce((sum, count) => sum + count, 0);
  const threads = (): Threads => {
    const { driver, device } = createHalves(plan, memory);
    return {
      driver: (shared) => runDriver(shared, driver, plan, total),
      device: (shared) => runDevice(shared, device, plan),
    };
  };
  return {
    memory,
    threads,
    planted: plan.planted ?? {},
    check: (end) => {
      const completed = end.note('completed');
      return completed === total ? undefined : `both asleep, ${completed} of ${total} came back`;
    },
  };
}

function runDriver(shared: Shared, driver: DriverQueue, plan: Plan, total: number): void {
  const list = createBufferList();
  let completed = 0;
  let submitted = 0;
  for (let batch = 0; ; shared.sleep('call')) {
    do {
      if (plan.suppresses) driver.disableCalls();
      while (driver.popUsed() >= 0) {
        completed += 1;
        shared.note('completed', completed);
      }
      if (driver.violation !== undefined) throw new Error(driver.violation.message);
    } while (plan.suppresses && driver.enableCalls() && plan.isCareless !== true);
    if (completed === total) return;
    for (; driver.freeCount >= (plan.batches[batch] ?? Infinity); batch += 1) {
      for (let count = plan.batches[batch]!; count > 0; count--) {
        list.clear();
        // The length tells the device which request it is.
        list.addReadable(BUFFERS, 8 + submitted);
        driver.add(list, submitted);
        submitted += 1;
      }
      if (driver.needsKick()) shared.atomicStore('kick', 1);
    }
  }
}

function runDevice(shared: Shared, device: DeviceQueue, plan: Plan): void {
  let expected = 8;
  for (;;) {
    do {
      if (plan.suppresses) device.disableKicks();
      for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
        if (chain.readableSize !== expected) throw new Error(`A request of ${chain.readableSize} bytes`);
        expected += 1;
        device.push(chain, 0);
      }
      if (device.violation !== undefined) throw new Error(device.violation.message);
      if (device.needsCall()) shared.atomicStore('call', 1);
    } while (plan.suppresses && device.enableKicks() && plan.isCareless !== true);
    shared.sleep('kick');
  }
}

const shapes: readonly Pick<Plan, 'size' | 'batches'>[] = [
  { size: 2, batches: [1, 1] },
  { size: 2, batches: [2, 1] },
  ...(campaignFactor() > 1
    ? [
        { size: 2, batches: [1, 1, 1] },
        { size: 4, batches: [1, 2, 1] },
      ]
    : []),
];

/** Words that show work, and those that say which doorbells are wanted. */
const INDICES = ['availIdx', 'usedIdx'];
const EVENT_WORDS = { works: INDICES, wishes: ['availEvent', 'usedEvent'] };
const FLAG_WORDS = { works: INDICES, wishes: ['availFlags', 'usedFlags'] };
const PACKED_WORDS = { works: ['slot 0', 'slot 1'], wishes: ['driverEvent', 'deviceEvent'] };

/** Requests one by one, in a queue that does not hold them all back: where mistakes show. */
function bugsOf(plan: Plan): PlantedBug[] {
  const { eventIdx, packed } = plan.features;
  if (!eventIdx && !plan.suppresses) return [];
  const { works, wishes } = packed === true ? PACKED_WORDS : eventIdx ? EVENT_WORDS : FLAG_WORDS;
  const plain = [
    { name: 'work is published by a plain store', plainStores: works },
    { name: 'the wish is stored by a plain store', plainStores: wishes },
  ];
  const careless = {
    name: 'the answer of the last look is ignored',
    exploration: queues({ ...plan, isCareless: true }),
  };
  const mute = queues({ ...plan, planted: { lostStores: wishes } });
  return [
    ...plain.map(({ name, plainStores }) => ({
      name,
      exploration: queues({ ...plan, planted: { plainStores } }),
      foundUnder: ['tso'] as const,
    })),
    ...(plan.suppresses ? [careless] : []),
    // A packed event area that holds 0 asks for every doorbell (§2.8.10): nothing is lost by it.
    ...(eventIdx && packed !== true
      ? [{ name: 'the event words never reach memory', exploration: mute }]
      : []),
  ];
}

/** What holds for queues of any format. */
export function queueCases(
  format: string,
  features: Omit<RingFeatures, 'eventIdx'>,
): readonly ExplorationCase[] {
  return [false, true].flatMap((eventIdx) =>
    [false, true].map((suppresses): ExplorationCase => {
      const plans = shapes.map((shape): Plan => ({
        features: { ...features, eventIdx },
        suppresses,
        ...shape,
      }));
      return {
        name: `${format} queues: ${eventIdx ? 'EVENT_IDX' : 'flags'}, ${suppresses ? 'off while awake' : 'always on'}`,
        exploration: plans.map(queues),
        bugs: bugsOf(plans[0]!),
      };
    }),
  );
}

export const explorations: readonly ExplorationCase[] = [
  ...queueCases('split', { indirect: false }),
  ...queueCases('packed', { indirect: false, packed: true }),
];
