// The device half in a process of its own: memory and doorbells are inherited, the rest is asked by the group's process.
import { createNodeAioContext, createSharedDoorbell } from '@virtlab/aio/node';
import { memoryRegion } from '@virtlab/guest-memory';
import { EventFd, mapShared } from '@virtlab/linux';
import type { DeviceQueue } from '@virtlab/vring';
import { serveParent } from '../child.ts';
import { BlockingBell } from './blocking-bell.ts';
import {
  type DeviceSide,
  NumbersDevice,
  RingtestDevice,
  TransferDevice,
  serveBlocking,
  servePolling,
} from './device-side.ts';
import {
  CALL_FD,
  DEVICE_NOTIFY_ME,
  DRIVER_NOTIFY_ME,
  type DeviceQuestion,
  type DeviceTotals,
  KICK_FD,
  MEMORY_FD,
  MEMORY_SIZE,
  type RingPlace,
  type RingPlan,
  type Run,
  openDeviceQueue,
} from './shared-ring.ts';

const region = memoryRegion(mapShared(MEMORY_FD, MEMORY_SIZE).buffer);
const words = region.i32;
const kickFd = EventFd.fromFd(KICK_FD);
const callFd = EventFd.fromFd(CALL_FD);
const kick = createSharedDoorbell({ words, notifyMeIndex: DEVICE_NOTIFY_ME, eventFd: kickFd });
const call = createSharedDoorbell({ words, notifyMeIndex: DRIVER_NOTIFY_ME, eventFd: callFd });
const bells = { kick: new BlockingBell(kickFd), call: new BlockingBell(callFd) };
let queue: DeviceQueue | undefined;
let numbers: NumbersDevice | undefined;
let stop: (() => DeviceTotals) | undefined;

serveParent((question) => {
  const asked = question as DeviceQuestion;
  switch (asked.op) {
    case 'open':
      return open(asked.plan, asked.place);
    case 'start':
      return start(asked.run);
    case 'stop':
      return stop?.() ?? { calls: 0, wakeUps: 0 };
  }
});

function open({ features }: RingPlan, place: RingPlace): void {
  queue?.release();
  queue = openDeviceQueue(region, place, features);
  numbers = new NumbersDevice(queue);
}

/** The answer to `start` leaves before a loop which lets nothing else run. */
function start({ workload, mode, count }: Run): void {
  if (queue === undefined || numbers === undefined) throw new TypeError('The ring is not open');
  const ring = queue;
  const isSleeping = mode.kind === 'block';
  const side: DeviceSide =
    workload.kind === 'numbers'
      ? numbers
      : workload.kind === 'ringtest'
        ? new RingtestDevice(ring, isSleeping)
        : new TransferDevice(ring);
  if (mode.kind === 'loop') {
    stop = startLooping(side, ring, mode.spinMaxNs);
    return;
  }
  bells.kick.drain();
  const before = bells.call.rungCount;
  stop = () => {
    const calls = bells.call.rungCount - before;
    return { calls, wakeUps: calls };
  };
  setImmediate(() => {
    if (isSleeping) serveBlocking(ring, side, count, bells.kick, bells.call);
    else servePolling(ring, side, count);
  });
}

function startLooping(side: DeviceSide, ring: DeviceQueue, spinMaxNs: number): () => DeviceTotals {
  const context = createNodeAioContext({ polling: { maxNs: spinMaxNs } });
  const wakeUpsBefore = call.sender.wakeUpsSent;
  let calls = 0;
  const callDriver = (): void => {
    calls += 1;
    call.sender.ring();
  };
  const serve = (): boolean => {
    if (!ring.hasAvailable()) return false;
    do {
      side.serve(callDriver);
      if (ring.needsCall()) callDriver();
    } while (ring.enableKicks());
    return true;
  };
  ring.enableKicks();
  const receiver = kick.receive(context, serve);
  return () => {
    receiver[Symbol.dispose]();
    context[Symbol.dispose]();
    return { calls, wakeUps: call.sender.wakeUpsSent - wakeUpsBefore };
  };
}
