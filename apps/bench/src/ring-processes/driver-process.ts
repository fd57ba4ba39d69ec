// The driver half in a process of its own, so that its code is specialised for one format of ring.
import { createSharedDoorbell } from '@virtlab/aio/node';
import { IdentityDmaMapper, PageAllocator, memoryRegion } from '@virtlab/guest-memory';
import { EventFd, mapShared } from '@virtlab/linux';
import { type DriverQueue, createDriverQueue } from '@virtlab/vring';
import { serveParent } from '../child.ts';
import { timeNs } from '../contender.ts';
import { BlockingBell } from './blocking-bell.ts';
import { LoopingDriver } from './looping-driver.ts';
import { NumbersDriver } from './numbers-driver.ts';
import {
  BUFFER_SIZE,
  CALL_FD,
  CONTROL_SIZE,
  DEVICE_NOTIFY_ME,
  DRIVER_NOTIFY_ME,
  type DriverQuestion,
  type DriverTotals,
  KICK_FD,
  MEMORY_FD,
  MEMORY_SIZE,
  type RingPlace,
  type RingPlan,
  type Run,
  placeOf,
} from './shared-ring.ts';
import { TransferDriver, driveRingtest } from './synchronous-drivers.ts';

/** Buffers of one request at most. */
const BUFFER_COUNT_MAX = 4;

interface OpenRing {
  readonly queue: DriverQueue;
  readonly dma: IdentityDmaMapper;
  readonly payload: number;
  readonly numbers: NumbersDriver;
}

const region = memoryRegion(mapShared(MEMORY_FD, MEMORY_SIZE).buffer);
const pages = new PageAllocator(CONTROL_SIZE, MEMORY_SIZE - CONTROL_SIZE);
const words = region.i32;
const kickFd = EventFd.fromFd(KICK_FD);
const callFd = EventFd.fromFd(CALL_FD);
const kick = createSharedDoorbell({ words, notifyMeIndex: DEVICE_NOTIFY_ME, eventFd: kickFd });
const call = createSharedDoorbell({ words, notifyMeIndex: DRIVER_NOTIFY_ME, eventFd: callFd });
const bells = { kick: new BlockingBell(kickFd), call: new BlockingBell(callFd) };
let ring: OpenRing | undefined;

serveParent((question) => {
  const asked = question as DriverQuestion;
  switch (asked.op) {
    case 'open':
      return open(asked.plan);
    case 'run':
      return run(asked.run);
    case 'close':
      return close();
  }
});

function open({ size, features }: RingPlan): RingPlace {
  const dma = new IdentityDmaMapper(region, { pages });
  const queue = createDriverQueue({ size, dma, features, bufferCountMax: BUFFER_COUNT_MAX });
  const payload = dma.allocate((size + 1) * BUFFER_SIZE);
  ring = { queue, dma, payload, numbers: new NumbersDriver(queue, region, payload) };
  return placeOf(queue.addresses);
}

function close(): void {
  if (ring === undefined) return;
  const { queue, dma, payload } = ring;
  queue.release();
  dma.free(payload, (queue.size + 1) * BUFFER_SIZE);
  ring = undefined;
}

async function run({ workload, mode, count }: Run): Promise<DriverTotals> {
  if (ring === undefined) throw new TypeError('The ring is not open');
  const { queue, payload, numbers } = ring;
  if (mode.kind === 'loop')
    return await new LoopingDriver(queue, numbers, kick, call).run(count, mode.spinMaxNs);
  bells.call.drain();
  const before = bells.kick.rungCount;
  const sleepWith = mode.kind === 'block' ? bells : undefined;
  const elapsedNs = timeNs(() => {
    switch (workload.kind) {
      case 'numbers':
        numbers.begin(count);
        return numbers.poll();
      case 'ringtest':
        return driveRingtest(queue, payload, count, { ...workload, bells: sleepWith });
      case 'transfer':
        return new TransferDriver(queue, region, payload).run(count, bells.kick, bells.call);
    }
  });
  const kicks = bells.kick.rungCount - before;
  return { elapsedNs, kicks, wakeUps: kicks };
}
