import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VRING_USED } from '@virtlab/abi/virtio-ring';
import {
  IdentityDeviceMemory,
  IdentityDmaMapper,
  type MemoryRegion,
  memoryRegion,
} from '@virtlab/guest-memory';
import {
  type DescriptorChain,
  type DeviceQueue,
  type QueueHandOver,
  type RingFeatures,
  ringFeatures,
} from '@virtlab/virtio';
import { createBufferList, createDeviceQueue, createDriverQueue } from '@virtlab/virtio/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type InflightPlace, type InflightRecord, inflightRegionSize } from './inflight-area.ts';
import { PackedInflightRecord } from './inflight-packed.ts';
import { SplitInflightRecord } from './inflight-split.ts';
import { ObservedQueue } from './observed-queue.ts';
import { Killed, MortalMemory } from './testing/mortal-memory.ts';
import { BASE_FEATURES } from './testing/raw-peer.ts';

const RING_SIZE = 4;
/** An area may be made for larger rings. */
const AREA_SIZE = 8;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const RUNS = 100 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);

const FORMATS = [
  ['split', BASE_FEATURES],
  ['packed', BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)],
] as const;

/** A driver that outlives the processes that have its ring. */
class World implements Disposable {
  readonly area: MortalMemory;
  readonly received: number[] = [];
  sentCount = 0;
  readonly #features: RingFeatures;
  readonly #region: MemoryRegion = memoryRegion(new ArrayBuffer(1 << 14));
  readonly #dma = new IdentityDmaMapper(this.#region);
  readonly #memory = new IdentityDeviceMemory([{ guestAddress: 0n, region: this.#region }]);
  readonly #payload: number;
  readonly driver;
  #held: DescriptorChain[] = [];

  constructor(features: bigint) {
    this.#features = ringFeatures(features);
    const isPacked = this.#features.packed === true;
    this.area = new MortalMemory(memoryRegion(new ArrayBuffer(inflightRegionSize(AREA_SIZE, isPacked))));
    this.driver = createDriverQueue({ size: RING_SIZE, dma: this.#dma, features: this.#features });
    this.#payload = this.#dma.allocate(16);
  }

  /** As it is made by a process that begins. */
  record(): InflightRecord {
    const place: InflightPlace = { memory: this.area.region, offset: 0, queueSize: AREA_SIZE };
    if (this.#features.packed !== true) return new SplitInflightRecord(place, RING_SIZE, false);
    const offset = Number(this.driver.addresses.descriptorArea);
    return new PackedInflightRecord(place, { memory: this.#region, offset, size: RING_SIZE }, false);
  }
  get usedIdx(): number {
    const at = Number(this.driver.addresses.deviceArea) + VRING_USED.offset.idx;
    return this.#features.packed === true ? 0 : this.#region.u16[at / 2]!;
  }
  /** What a process that begins now would do again. */
  found(): QueueHandOver | undefined {
    return this.record().recover(this.usedIdx);
  }

  queue(past: QueueHandOver | undefined, record: InflightRecord): DeviceQueue {
    const { addresses } = this.driver;
    const made = createDeviceQueue({ addresses, memory: this.#memory, features: this.#features, ...past });
    if (!made.ok) throw new Error(made.violation.message);
    const { queue } = made;
    const { start, takenChains } = past ?? { start: queue.position(), takenChains: [] };
    this.#held = [];
    return new ObservedQueue(
      queue,
      record.begin(start, takenChains, () => queue.position()),
    );
  }

  step(queue: DeviceQueue, [kind, at]: readonly [string, number]): void {
    if (kind === 'send') this.send(at);
    else if (kind === 'receive') this.receive();
    else if (kind === 'take') {
      const chain = queue.pop();
      if (chain !== undefined) this.#held.push(chain);
    } else if (kind === 'push' && this.#held.length > 0) {
      const [chain] = this.#held.splice(at % this.#held.length, 1);
      queue.push(chain!, 0);
    } else if (kind === 'publish') queue.publish();
  }
  send(at: number): void {
    const list = createBufferList();
    if (at % 2 === 1) list.addReadable(this.#payload, 8);
    list.addWritable(this.#payload + 8, 8);
    if (this.driver.add(list, this.sentCount) === 0) this.sentCount += 1;
    this.driver.publish();
  }
  receive(): void {
    for (let token = this.driver.popUsed(); token >= 0; token = this.driver.popUsed())
      this.received.push(token);
  }
  finishAll(queue: DeviceQueue): void {
    for (let left = AREA_SIZE; left > 0; left -= 1) this.step(queue, ['take', 0]);
    while (this.#held.length > 0) this.step(queue, ['push', 0]);
    queue.publish();
    this.receive();
  }

  [Symbol.dispose](): void {
    this.area[Symbol.dispose]();
  }
}

const STEP = fc.tuple(
  fc.constantFrom('send', 'send', 'take', 'take', 'push', 'push', 'publish', 'publish', 'receive'),
  fc.nat(7),
);
const DEATH = fc.record({ stores: fc.nat(250), when: fc.constantFrom('after' as const, 'before' as const) });
const LIVES = fc.array(fc.record({ steps: fc.array(STEP, { maxLength: 60, size: 'max' }), death: DEATH }), {
  minLength: 1,
  maxLength: 4,
});

/** Some laps with something left in flight, in batches of each size, a whole ring at once among them. */
const LAPS: readonly (readonly [string, number])[] = Array.from({ length: 3 }, (_, lap) => [
  ...['send', 'send', 'take', 'take', 'push', 'publish', 'receive'].map((kind) => [kind, lap] as const),
  ...['send', 'take', 'push', 'push', 'publish', 'receive'].map((kind) => [kind, lap >> 1] as const),
  ...['send', 'send', 'send', 'send', 'take', 'take', 'take', 'take'].map((kind) => [kind, 0] as const),
  ...['push', 'push', 'push', 'push', 'publish', 'receive'].map((kind) => [kind, 7] as const),
  ...['send', 'take', 'send', 'take', 'push', 'publish'].map((kind) => [kind, lap + 1] as const),
]).flat();

function untilKilled(life: () => void): void {
  try {
    life();
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  }
}

/** The area after each store that `life` makes of it, the first time before any. */
function afterEachStore(world: World, life: () => void, look: () => void): void {
  const { area } = world;
  const before = area.save();
  area.revive();
  life();
  const { storeCount } = area;
  for (let count = 0; count <= storeCount; count += 1) {
    area.restore(before);
    area.killAt(count, 'before');
    untilKilled(life);
    area.revive();
    look();
  }
  area.restore(before);
}

/** What is written down of a ring that begins says the same as before, wherever it ends. */
function checkAll(world: World): void {
  expect(world.driver.violation).toBeUndefined();
  const all = Array.from({ length: world.sentCount }, (_, token) => token);
  expect(world.received.toSorted((a, b) => a - b)).toEqual(all);
}

function checkBegin(world: World, found: QueueHandOver): void {
  const begin = (takenChains: QueueHandOver['takenChains']) => () => {
    const record = world.record();
    record.recover(world.usedIdx);
    record.begin({ ...found.start }, takenChains, () => found.start);
  };
  afterEachStore(world, begin(found.takenChains), () => expect(world.found()).toEqual(found));
}

describe.each(FORMATS)(
  '"Inflight I/O tracking": %s, processes that are killed at any store',
  (_, features) => {
    it.each(['after', 'before'] as const)('%s each store of some laps: each request is done once', (when) => {
      let killedAt = 0;
      for (let isKilled = true; isKilled; killedAt += 1) {
        using world = new World(features);
        const queue = world.queue(undefined, world.record());
        world.area.killAt(killedAt, when);
        isKilled = false;
        try {
          for (const step of LAPS) world.step(queue, step);
        } catch (error) {
          if (!(error instanceof Killed)) throw error;
          isKilled = true;
        }
        world.area.revive();
        const past = world.found()!;
        checkBegin(world, past);
        world.finishAll(world.queue(past, world.record()));
        checkAll(world);
      }
      expect(killedAt).toBeGreaterThan(100);
    });

    it('the next life finds the same, wherever the one before was killed as it began', () => {
      const property = fc.property(LIVES, (lives) => {
        using world = new World(features);
        let record = world.record();
        world.queue(undefined, record);
        let past = world.found();
        for (const { steps, death } of lives) {
          world.area.revive();
          record = world.record();
          const queue = world.queue(past, record);
          world.area.killAt(death.stores, death.when);
          untilKilled(() => {
            for (const step of steps) world.step(queue, step);
          });
          world.area.revive();
          past = world.found();
          expect(past).toBeDefined();
          checkBegin(world, past!);
        }
        world.finishAll(world.queue(past, world.record()));
        checkAll(world);
      });
      fc.assert(property, { seed: SEED, numRuns: RUNS });
    });

    it('of what the ring gives again, the newest is forgotten first', () => {
      using world = new World(features);
      const queue = world.queue(undefined, world.record());
      for (const step of ['send', 'send', 'send', 'take', 'take', 'take']) world.step(queue, [step, 0]);
      const found = world.found()!;
      expect(found.takenChains).toHaveLength(3);
      const life = (): void => {
        world.record().begin(found.start, found.takenChains.slice(0, 1), () => found.start);
      };
      const counts = new Set<number>();
      afterEachStore(world, life, () => {
        const { takenChains, start } = world.found()!;
        counts.add(takenChains.length);
        expect(takenChains).toEqual(found.takenChains.slice(0, takenChains.length));
        expect(found.start.available - start.available).toBe(3 - takenChains.length);
      });
      expect([...counts]).toEqual([3, 2, 1]);
    });

    it("another ring's past is forgotten with one store", () => {
      using world = new World(features);
      const queue = world.queue(undefined, world.record());
      for (const step of ['send', 'send', 'take', 'take']) world.step(queue, [step, 0]);
      const found = world.found()!;
      const isPacked = ringFeatures(features).packed === true;
      const start = isPacked ? { available: 0x8000, used: 0x8000 } : { available: 0, used: 0 };
      const seen: (number | undefined)[] = [];
      afterEachStore(
        world,
        () => void world.record().begin(start, [], () => start),
        () => seen.push(world.found()?.takenChains.length),
      );
      expect([seen[0], seen.at(-1)]).toEqual([found.takenChains.length, 0]);
      expect(new Set(seen.slice(1, -1))).toEqual(new Set([undefined]));
    });
  },
);
