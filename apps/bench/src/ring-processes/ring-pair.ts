import {
  type NodeAioContext,
  type SharedDoorbell,
  createNodeAioContext,
  createSharedDoorbell,
} from '@virtlab/aio/node';
import { IdentityDmaMapper, PageAllocator, memoryRegion } from '@virtlab/guest-memory';
import { EventFd, closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import { type DriverQueue, createDriverQueue } from '@virtlab/vring';
import { type Child, startChild } from '../child.ts';
import { type Contender, type RunResult, elapsedNs } from '../contender.ts';
import { DriverSide } from './driver-side.ts';
import {
  BUFFER_SIZE,
  CONTROL_SIZE,
  DEVICE_NOTIFY_ME,
  DRIVER_NOTIFY_ME,
  type DeviceQuestion,
  type DeviceTotals,
  FEATURES,
  MEMORY_SIZE,
  RING_SIZE,
  type WaitMode,
  placeOf,
} from './shared-ring.ts';

/** A ring whose driver half is in this process and whose device half is in another. */
export interface RingPair extends AsyncDisposable {
  contender(name: string, mode: WaitMode, budgetNs: number | undefined): Contender;
}

export async function startRingPair(): Promise<RingPair> {
  const memoryFd = memfdCreate('bench-ring', MEMORY_SIZE);
  const kickFd = EventFd.create();
  const callFd = EventFd.create();
  const mapping = mapShared(memoryFd, MEMORY_SIZE);
  const child = startChild('ring-processes/device-process', [], [memoryFd, kickFd.fd, callFd.fd]);
  closeFd(memoryFd);
  const region = memoryRegion(mapping.buffer);
  const pages = new PageAllocator(CONTROL_SIZE, MEMORY_SIZE - CONTROL_SIZE);
  const dma = new IdentityDmaMapper(region, { pages });
  const queue = createDriverQueue({ size: RING_SIZE, dma, features: FEATURES, bufferCountMax: 1 });
  await ask(child, { op: 'open', place: placeOf(queue.addresses) });
  const words = region.i32;
  const driver = new DriverSide(queue, region, dma.allocate(RING_SIZE * BUFFER_SIZE));
  const kick = createSharedDoorbell({ words, notifyMeIndex: DEVICE_NOTIFY_ME, eventFd: kickFd });
  const call = createSharedDoorbell({ words, notifyMeIndex: DRIVER_NOTIFY_ME, eventFd: callFd });
  const sleeper = new SleepingDriver(queue, driver, kick, call);
  return {
    contender: (name, mode, budgetNs) => ({
      name,
      isPeer: false,
      budgetNs,
      run: async (count) => {
        await ask(child, { op: 'start', mode, count });
        if (mode.kind === 'sleep') return await sleeper.run(child, count, mode.spinMaxNs);
        const start = performance.now();
        driver.begin(count);
        driver.poll();
        const elapsed = elapsedNs(start);
        return { operationCount: count, elapsedNs: elapsed, doorbells: { kicks: 0, calls: 0, wakeUps: 0 } };
      },
    }),
    [Symbol.asyncDispose]: async () => {
      await child[Symbol.asyncDispose]();
      kickFd.close();
      callFd.close();
      mapping.revoke();
    },
  };
}

async function ask(child: Child, question: DeviceQuestion): Promise<unknown> {
  return await child.ask(question);
}

/** The driver on an event loop that sleeps when there is nothing to do. */
class SleepingDriver {
  readonly #queue: DriverQueue;
  readonly #driver: DriverSide;
  readonly #kick: SharedDoorbell;
  readonly #call: SharedDoorbell;
  #kicks = 0;

  constructor(queue: DriverQueue, driver: DriverSide, kick: SharedDoorbell, call: SharedDoorbell) {
    this.#queue = queue;
    this.#driver = driver;
    this.#kick = kick;
    this.#call = call;
  }

  async run(child: Child, count: number, spinMaxNs: number): Promise<RunResult> {
    const { sender } = this.#kick;
    const wakeUpsBefore = sender.wakeUpsSent;
    this.#kicks = 0;
    using context = createNodeAioContext({ polling: { maxNs: spinMaxNs } });
    const start = performance.now();
    await this.#move(context, count);
    const elapsed = elapsedNs(start);
    const device = (await ask(child, { op: 'stop' })) as DeviceTotals;
    const wakeUps = sender.wakeUpsSent - wakeUpsBefore + device.wakeUps;
    const doorbells = { kicks: this.#kicks, calls: device.calls, wakeUps };
    return { operationCount: count, elapsedNs: elapsed, doorbells };
  }

  async #move(context: NodeAioContext, count: number): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#driver.begin(count);
    const receiver = this.#call.receive(context, () => {
      try {
        if (!this.#queue.hasUsed()) return false;
        this.#serve();
        if (this.#driver.isDone) done.resolve();
      } catch (error) {
        done.reject(error);
      }
      return true;
    });
    try {
      this.#queue.enableCalls();
      this.#fill();
      await done.promise;
    } finally {
      receiver[Symbol.dispose]();
    }
  }

  #serve(): void {
    do {
      this.#driver.collect();
      this.#fill();
    } while (this.#queue.enableCalls());
  }

  /** All that there is room for; the device may begin with the first batch while the next is made. */
  #fill(): void {
    while (this.#driver.fill() > 0) {
      if (!this.#queue.needsKick()) continue;
      this.#kicks += 1;
      this.#kick.sender.ring();
    }
  }
}
