import { vringAvailEventOffset } from '@virtlab/abi/virtio-ring';
import type * as GuestMemory from '@virtlab/guest-memory';
import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import type { DeviceQueue, DriverQueue } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDriverQueue } from './driver-queue.ts';

/**
 * The real queues, preempted: before each access to an index, event or flags word the other party may run a whole turn.
 * All ways of preempting up to `PREEMPTIONS` times are tried, by replay. A party sleeps whenever it is allowed to and
 * wakes by a doorbell only; requests that never come back are a lost wake-up.
 */
const PREEMPTIONS = 2;

const shared = vi.hoisted(() => ({ beforeAccess: () => {}, dropped: (_index: number): boolean => false }));

vi.mock('@virtlab/guest-memory', async (importOriginal) => {
  const real = await importOriginal<typeof GuestMemory>();
  return {
    ...real,
    loadIndexAcquire: (words: Uint16Array, index: number) => {
      shared.beforeAccess();
      return real.loadIndexAcquire(words, index);
    },
    storeIndexRelease: (words: Uint16Array, index: number, value: number) => {
      shared.beforeAccess();
      if (!shared.dropped(index)) real.storeIndexRelease(words, index, value);
    },
  };
});

interface Plan {
  readonly eventIdx: boolean;
  /** Turns doorbells off while awake. */
  readonly suppresses: boolean;
  /** Requests in each batch. */
  readonly batches: readonly number[];
  readonly size: number;
  /** Planted: sleeps without heeding what `enableKicks` and `enableCalls` answered. */
  readonly careless?: boolean;
  /** Planted: the device's event word never reaches memory. */
  readonly loseEvent?: boolean;
}

class Pair {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  readonly #plan: Plan;
  readonly #list = createBufferList();
  #kicked = true;
  #called = true;
  #batch = 0;
  #pending = 0;
  completed = 0;

  constructor(plan: Plan) {
    this.#plan = plan;
    const region = memoryRegion(new ArrayBuffer(1 << 14));
    const dma = new IdentityDmaMapper(region);
    const features = { indirect: false, eventIdx: plan.eventIdx };
    this.driver = createDriverQueue({ size: plan.size, dma, features });
    const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
    const made = createDeviceQueue({ addresses: this.driver.addresses, memory, features });
    if (!made.ok) throw new Error(made.violation.message);
    this.device = made.queue;
    this.#list.addReadable(0x2000, 8);
  }

  get total(): number {
    return this.#plan.batches.reduce((sum, count) => sum + count, 0);
  }

  /** Handles a call if there was one, then submits the next batch if it fits. False when there was nothing to do. */
  driverTurn(): boolean {
    const called = this.#called;
    if (called) {
      this.#called = false;
      do {
        if (this.#plan.suppresses) this.driver.disableCalls();
        while (this.driver.popUsed() >= 0) this.completed++;
      } while (this.#plan.suppresses && this.driver.enableCalls() && this.#plan.careless !== true);
    }
    if (this.#pending === 0) this.#pending = this.#plan.batches[this.#batch++] ?? 0;
    if (this.#pending === 0 || this.driver.freeCount < this.#pending) return called;
    for (; this.#pending > 0; this.#pending--) this.driver.add(this.#list, 1);
    if (this.driver.needsKick()) this.#kicked = true;
    return true;
  }

  /** Handles a kick if there was one. */
  deviceTurn(): boolean {
    if (!this.#kicked) return false;
    this.#kicked = false;
    do {
      if (this.#plan.suppresses) this.device.disableKicks();
      for (let chain = this.device.pop(); chain !== undefined; chain = this.device.pop())
        this.device.push(chain, 0);
      if (this.device.needsCall()) this.#called = true;
    } while (this.#plan.suppresses && this.device.enableKicks() && this.#plan.careless !== true);
    return true;
  }
}

/** Runs to the end with these choices (then none); choices met, and whether everything came back. */
function run(plan: Plan, choices: readonly boolean[]): { met: number; pair: Pair } {
  shared.beforeAccess = () => {};
  const pair = new Pair(plan);
  shared.dropped = plan.loseEvent === true ? (index) => index === availEventIndex(pair) : () => false;
  let met = 0;
  let other: () => boolean = () => false;
  const preempt = (): void => {
    if (choices[met++] !== true) return;
    shared.beforeAccess = () => {};
    other();
    shared.beforeAccess = preempt;
  };
  shared.beforeAccess = preempt;
  for (let busy = true; busy;) {
    other = () => pair.deviceTurn();
    busy = pair.driverTurn();
    other = () => pair.driverTurn();
    busy = pair.deviceTurn() || busy;
  }
  shared.beforeAccess = () => {};
  return { met, pair };
}

/** Element index of avail_event; device addresses are offsets here. */
function availEventIndex({ driver }: Pair): number {
  return (Number(driver.addresses.deviceArea) + vringAvailEventOffset(driver.size)) / 2;
}

/** Tries every plan of at most `PREEMPTIONS` preemptions; how many, and the first that lost something. */
function explore(plan: Plan): { runs: number; lost: readonly boolean[] | undefined } {
  let runs = 0;
  const stack: boolean[][] = [[]];
  for (let choices = stack.pop(); choices !== undefined; choices = stack.pop()) {
    const { met, pair } = run(plan, choices);
    runs++;
    if ((pair.device.violation ?? pair.driver.violation) !== undefined) return { runs, lost: choices };
    if (pair.completed !== pair.total) return { runs, lost: choices };
    if (choices.filter(Boolean).length === PREEMPTIONS) continue;
    for (let at = choices.length; at < met; at++) {
      stack.push([...choices, ...Array.from({ length: at - choices.length }, () => false), true]);
    }
  }
  return { runs, lost: undefined };
}

describe('suppression, the real queues preempted', () => {
  beforeEach(() => {
    shared.beforeAccess = () => {};
    shared.dropped = () => false;
  });

  for (const eventIdx of [false, true]) {
    for (const suppresses of [false, true]) {
      const name = `${eventIdx ? 'event index' : 'flags'}, ${suppresses ? 'doorbells off while awake' : 'always on'}`;
      it(`§2.7.7, §2.7.10 no wake-up is lost: ${name}`, () => {
        let runs = 0;
        for (const size of [2, 4]) {
          for (const batches of [
            [1, 1, 1],
            [2, 1],
            [1, 2, 1],
          ]) {
            const result = explore({ eventIdx, suppresses, size, batches });
            runs += result.runs;
            expect(result.lost).toBeUndefined();
          }
        }
        expect(runs).toBeGreaterThan(500);
      });
    }

    it(`finds a planted bug: the answer of enableKicks ignored, ${eventIdx ? 'event index' : 'flags'}`, () => {
      expect(
        explore({ eventIdx, suppresses: true, size: 2, batches: [1, 1, 1], careless: true }).lost,
      ).toBeDefined();
    });
  }

  it('finds a planted bug: avail_event never written', () => {
    expect(
      explore({ eventIdx: true, suppresses: false, size: 2, batches: [1, 1, 1], loseEvent: true }).lost,
    ).toBeDefined();
  });
});
