/**
 * Prints what a round trip to another process and back costs. A program, not a test: it asserts nothing about
 * time.
 */
import { closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import {
  createNodeAioContext,
  createSharedDoorbell,
  type NodeAioContext,
  type SharedDoorbell,
} from '../node/index.ts';
import {
  CHILD_NOTIFY_ME,
  ECHO_MEMORY_SIZE,
  PARENT_NOTIFY_ME,
  PING,
  PONG,
  startEcho,
} from './echo-program.ts';

const ROUNDS = 3000;
const WARM_UP = 300;

interface Trial {
  readonly context: NodeAioContext;
  readonly words: Int32Array;
  readonly toChild: SharedDoorbell;
  readonly toParent: SharedDoorbell;
}

/** Round trips through the event loop: the answer is found by a poll or after a wake-up. */
async function throughLoop({ context, words, toChild, toParent }: Trial): Promise<number[]> {
  const times: number[] = [];
  let sentAt = 0;
  return new Promise((resolve) => {
    const send = (): void => {
      sentAt = performance.now();
      Atomics.add(words, PING, 1);
      toChild.sender.ring();
    };
    const receiver = toParent.receive(context, () => {
      if (Atomics.load(words, PONG) !== Atomics.load(words, PING)) return false;
      times.push(performance.now() - sentAt);
      if (times.length < ROUNDS) {
        send();
        return true;
      }
      receiver[Symbol.dispose]();
      resolve(times);
      return true;
    });
    send();
  });
}

/** Round trips that block the thread. */
async function blocking({ context, words, toChild, toParent }: Trial): Promise<number[]> {
  using _ = toParent.receive(context, () => false);
  return Array.from({ length: ROUNDS }, () => {
    const sentAt = performance.now();
    const ping = Atomics.add(words, PING, 1) + 1;
    toChild.sender.ring();
    if (!context.runUntil(() => Atomics.load(words, PONG) === ping, 5000)) throw new Error('No answer');
    return performance.now() - sentAt;
  });
}

async function measure(name: string, maxNs: number, run: (trial: Trial) => Promise<number[]>): Promise<void> {
  const fd = memfdCreate('round-trips', ECHO_MEMORY_SIZE);
  using mapping = mapShared(fd, ECHO_MEMORY_SIZE);
  const words = new Int32Array(mapping.buffer);
  const echo = await startEcho(words, fd, maxNs);
  const context = createNodeAioContext({ polling: { maxNs } });
  const toChild = createSharedDoorbell({ words, notifyMeIndex: CHILD_NOTIFY_ME, eventFd: echo.childEvent });
  const toParent = createSharedDoorbell({
    words,
    notifyMeIndex: PARENT_NOTIFY_ME,
    eventFd: echo.parentEvent,
  });
  const times = (await run({ context, words, toChild, toParent })).slice(WARM_UP).toSorted((a, b) => a - b);
  const at = (part: number): string =>
    (times[Math.floor(times.length * part)]! * 1000).toFixed(1).padStart(7);
  const mean = (times.reduce((sum, time) => sum + time) / times.length) * 1000;
  const wakes = (toChild.sender.wakeUpsSent / ROUNDS).toFixed(2);
  console.log(`${name.padEnd(44)} ${mean.toFixed(1).padStart(7)} ${at(0.5)} ${at(0.99)}   ${wakes}`);
  context[Symbol.dispose]();
  await echo.stop();
  closeFd(fd);
}

if (process.argv[1]?.endsWith('measure-round-trips.ts')) {
  console.log('round trip, µs'.padEnd(44), '   mean  median     p99   system calls per ping');
  await measure('event loop, event fd only', 0, throughLoop);
  await measure('event loop, spinning up to 50 µs', 50_000, throughLoop);
  await measure('runUntil, event fd only', 0, blocking);
  await measure('runUntil, spinning up to 50 µs', 50_000, blocking);
}
