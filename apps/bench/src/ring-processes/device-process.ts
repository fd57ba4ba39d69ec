// The device half in a process of its own: memory and doorbells are inherited, the rest is asked by the driver's process.
import { createNodeAioContext, createSharedDoorbell } from '@virtlab/aio/node';
import { IdentityDeviceMemory, memoryRegion } from '@virtlab/guest-memory';
import { EventFd, mapShared } from '@virtlab/linux';
import { type DeviceQueue, createDeviceQueue } from '@virtlab/vring';
import { serveParent } from '../child.ts';
import { DeviceSide } from './device-side.ts';
import {
  CALL_FD,
  DEVICE_NOTIFY_ME,
  DRIVER_NOTIFY_ME,
  type DeviceQuestion,
  type DeviceTotals,
  FEATURES,
  KICK_FD,
  MEMORY_FD,
  MEMORY_SIZE,
  type RingPlace,
  type WaitMode,
  addressesOf,
} from './shared-ring.ts';

const region = memoryRegion(mapShared(MEMORY_FD, MEMORY_SIZE).buffer);
const words = region.i32;
const kick = createSharedDoorbell({
  words,
  notifyMeIndex: DEVICE_NOTIFY_ME,
  eventFd: EventFd.fromFd(KICK_FD),
});
const call = createSharedDoorbell({
  words,
  notifyMeIndex: DRIVER_NOTIFY_ME,
  eventFd: EventFd.fromFd(CALL_FD),
});
let queue: DeviceQueue | undefined;
let device: DeviceSide | undefined;
let stop: (() => DeviceTotals) | undefined;

serveParent((question) => {
  const asked = question as DeviceQuestion;
  switch (asked.op) {
    case 'open':
      return open(asked.place);
    case 'start':
      return start(asked.mode, asked.count);
    case 'stop':
      return stop?.() ?? { calls: 0, wakeUps: 0 };
  }
});

function open(place: RingPlace): void {
  const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
  const made = createDeviceQueue({ addresses: addressesOf(place), memory, features: FEATURES });
  if (!made.ok) throw new Error(`Device queue refused: ${made.violation.message}`);
  queue = made.queue;
  device = new DeviceSide(queue);
}

function start(mode: WaitMode, count: number): void {
  if (device === undefined || queue === undefined) throw new TypeError('The ring is not open');
  stop = undefined;
  if (mode.kind === 'sleep') stop = startSleeping(device, queue, mode.spinMaxNs);
  else setImmediate(pollAfterAnswer, device, count);
}

/** The answer to `start` leaves before this loop, which lets nothing else run. */
function pollAfterAnswer(side: DeviceSide, count: number): void {
  side.poll(count);
}

function startSleeping(side: DeviceSide, ring: DeviceQueue, spinMaxNs: number): () => DeviceTotals {
  const context = createNodeAioContext({ polling: { maxNs: spinMaxNs } });
  const wakeUpsBefore = call.sender.wakeUpsSent;
  let calls = 0;
  const serve = (): boolean => {
    if (!ring.hasAvailable()) return false;
    do {
      side.serve();
      if (ring.needsCall()) {
        calls += 1;
        call.sender.ring();
      }
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
