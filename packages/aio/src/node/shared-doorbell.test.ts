import { EventFd, closeFd, mapShared, memfdCreate, openFdCount, type SharedMapping } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  CHILD_NOTIFY_ME,
  ECHO_MEMORY_SIZE,
  PARENT_NOTIFY_ME,
  PING,
  PONG,
  startEcho,
} from '../testing/echo-program.ts';
import {
  createNodeAioContext,
  createSharedDoorbell,
  createSharedNotifier,
  type NodeAioContext,
} from './index.ts';

const NOTIFY_ME = 0;
const PENDING = 1;
const WORK = 2;

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}

describeWithFfi('shared doorbell', () => {
  let words: Int32Array;
  let eventFd: EventFd;
  let context: NodeAioContext;
  let fdsBefore = 0;

  beforeEach(() => {
    fdsBefore = openFdCount();
    words = new Int32Array(16);
    eventFd = EventFd.create();
    context = createNodeAioContext({ polling: { maxNs: 0 } });
  });
  afterEach(() => {
    context[Symbol.dispose]();
    eventFd.close();
    if (openFdCount() !== fdsBefore) throw new Error(`${openFdCount() - fdsBefore} descriptors leaked`);
  });

  /** Takes the work word and counts. */
  function attach(): {
    taken: () => number;
    doorbell: ReturnType<typeof createSharedDoorbell>;
    receiver: Disposable;
  } {
    const doorbell = createSharedDoorbell({ words, notifyMeIndex: NOTIFY_ME, eventFd });
    let count = 0;
    const receiver = doorbell.receive(context, () => {
      if (Atomics.exchange(words, WORK, 0) === 0) return false;
      count++;
      return true;
    });
    return { taken: () => count, doorbell, receiver };
  }

  it('notify_me is set while the context sleeps and clear while it is awake', async () => {
    const seen: number[] = [];
    const { taken, doorbell, receiver } = attach();
    using half = context.createBottomHalf(() => void seen.push(Atomics.load(words, NOTIFY_ME)));
    await until(() => context.statistics.sleeps > 0);
    expect(Atomics.load(words, NOTIFY_ME)).toBe(1);
    half.schedule();
    await until(() => seen.length > 0);
    expect(seen).toEqual([0]);
    await until(() => context.statistics.sleeps > 1);
    Atomics.store(words, WORK, 1);
    doorbell.sender.ring();
    await until(() => taken() === 1);
    expect(context.statistics.wakeUps).toBe(1);
    receiver[Symbol.dispose]();
    expect(Atomics.load(words, NOTIFY_ME)).toBe(0);
  });

  it('a ring to a context that is awake makes no system call, and the work is found', async () => {
    const { taken, doorbell, receiver } = attach();
    await until(() => context.statistics.sleeps > 0);
    using half = context.createBottomHalf(() => {
      Atomics.store(words, WORK, 1);
      doorbell.sender.ring();
    });
    half.schedule();
    await until(() => taken() === 1);
    expect(doorbell.sender.wakeUpsSent).toBe(0);
    receiver[Symbol.dispose]();
  });

  it('the sender leaves notify_me alone, so that the next sender wakes the receiver if this one dies', async () => {
    const { taken, doorbell, receiver } = attach();
    await until(() => context.statistics.sleeps > 0);
    Atomics.store(words, WORK, 1);
    doorbell.sender.ring();
    expect(Atomics.load(words, NOTIFY_ME)).toBe(1);
    await until(() => taken() === 1);
    receiver[Symbol.dispose]();
  });

  it('a receiver finds work that was left before it came', async () => {
    Atomics.store(words, WORK, 1);
    const { taken, receiver } = attach();
    await until(() => taken() === 1);
    expect(context.statistics.wakeUps).toBe(0);
    receiver[Symbol.dispose]();
  });

  it('a wake-up without work is harmless', async () => {
    const { taken, receiver } = attach();
    await until(() => context.statistics.sleeps > 0);
    eventFd.write();
    await until(() => context.statistics.wakeUps === 1 && context.statistics.sleeps === 2);
    expect(taken()).toBe(0);
    receiver[Symbol.dispose]();
  });

  it('a shared notifier runs its handler, coalesces, and is silent after dispose', async () => {
    const shared = createSharedNotifier({ words, notifyMeIndex: NOTIFY_ME, pendingIndex: PENDING, eventFd });
    const notifier = shared.receive(context);
    let runs = 0;
    using _ = context.addHandler(notifier, { onReady: () => void runs++ });
    await until(() => context.statistics.sleeps > 0);
    shared.set();
    shared.set();
    await until(() => runs > 0 && context.statistics.sleeps > 1);
    expect(runs).toBe(1);
    expect(Atomics.load(words, PENDING)).toBe(0);
    notifier[Symbol.dispose]();
    shared.set();
    expect(eventFd.read()).toBe(false);
    expect(context.leaks()).toEqual(['1 handlers']);
  });

  it('an EventFd notifier follows writes of a party that knows no notify_me', async () => {
    const notifier = context.createEventFdNotifier(eventFd);
    let runs = 0;
    using _ = context.addHandler(notifier, { onReady: () => void runs++ });
    eventFd.write();
    eventFd.write();
    await until(() => runs === 1);
    eventFd.write();
    await until(() => runs === 2);
    expect(context.statistics.wakeUps).toBe(2);
    notifier[Symbol.dispose]();
  });

  it('runUntil answers at once when it is done, and false after the time-out', () => {
    const { receiver } = attach();
    expect(context.runUntil(() => true, 1000)).toBe(true);
    expect(context.runUntil(() => false, 2)).toBe(false);
    receiver[Symbol.dispose]();
    expect(() => context.runUntil(() => false, 2)).toThrow(TypeError);
  });

  it('runUntil ends polling before it blocks, so that doorbells that were switched off ring again', async () => {
    const { receiver } = attach();
    const log: string[] = [];
    let found = 1;
    const poller = context.addPoller({
      poll: () => found-- > 0,
      begin: () => void log.push('begin'),
      end: () => log.push('end') === 0,
    });
    await until(() => log.includes('begin')); // a turn found something, so the polling phase goes on after it
    log.length = 0;
    expect(context.runUntil(() => log.includes('end'), 1000)).toBe(true);
    expect(log).toEqual(['end', 'begin']);
    poller[Symbol.dispose]();
    receiver[Symbol.dispose]();
  });

  it('what arrives during runUntil is handled in a turn after it', async () => {
    const { taken, doorbell, receiver } = attach();
    await until(() => context.statistics.sleeps > 0);
    let calls = 0;
    const result = context.runUntil(() => {
      // The second call is the look after notify_me was set, before the wait.
      if (++calls === 2) {
        Atomics.store(words, WORK, 1);
        doorbell.sender.ring();
      }
      return calls === 3;
    }, 1000);
    expect(result).toBe(true);
    expect(taken()).toBe(0);
    await until(() => taken() === 1);
    receiver[Symbol.dispose]();
  });
});

describeWithFfi('doorbells between processes', () => {
  let mapping: SharedMapping;
  let fd = -1;
  beforeEach(() => {
    fd = memfdCreate('echo', ECHO_MEMORY_SIZE);
    mapping = mapShared(fd, ECHO_MEMORY_SIZE);
  });
  afterEach(() => {
    closeFd(fd);
    mapping.revoke();
  });

  it.each([
    [0, 0],
    [50_000, 0],
    [0, 50_000],
    [50_000, 50_000],
  ])('no wake-up is lost in 1000 round trips (spinning %i ns here, %i ns there)', async (ours, theirs) => {
    const before = openFdCount();
    const words = new Int32Array(mapping.buffer);
    const echo = await startEcho(words, fd, theirs);
    const context = createNodeAioContext({ polling: { maxNs: ours } });
    const toChild = createSharedDoorbell({ words, notifyMeIndex: CHILD_NOTIFY_ME, eventFd: echo.childEvent });
    const toParent = createSharedDoorbell({
      words,
      notifyMeIndex: PARENT_NOTIFY_ME,
      eventFd: echo.parentEvent,
    });
    const rounds = 1000;
    await new Promise<void>((resolve) => {
      let sent = 0;
      const send = (): void => {
        Atomics.store(words, PING, ++sent);
        toChild.sender.ring();
      };
      const receiver = toParent.receive(context, () => {
        if (Atomics.load(words, PONG) !== sent) return false;
        if (sent === rounds) {
          receiver[Symbol.dispose]();
          resolve();
          return true;
        }
        // A changing pause moves the ring over every point of the other side's way to sleep.
        for (let pause = sent % 64; pause > 0; pause--) Atomics.load(words, PING);
        send();
        return true;
      });
      send();
    });
    expect(context.leaks()).toEqual([]);
    context[Symbol.dispose]();
    expect((await echo.stop()).exitCode).toBe(0);
    expect(openFdCount()).toBe(before);
  });

  it('runUntil waits for another process without the event loop', async () => {
    const words = new Int32Array(mapping.buffer);
    const echo = await startEcho(words, fd, 0);
    using context = createNodeAioContext({ polling: { maxNs: 0 } });
    const toChild = createSharedDoorbell({ words, notifyMeIndex: CHILD_NOTIFY_ME, eventFd: echo.childEvent });
    const toParent = createSharedDoorbell({
      words,
      notifyMeIndex: PARENT_NOTIFY_ME,
      eventFd: echo.parentEvent,
    });
    using _ = toParent.receive(context, () => false);
    for (let round = 1; round <= 300; round++) {
      Atomics.store(words, PING, round);
      toChild.sender.ring();
      expect(context.runUntil(() => Atomics.load(words, PONG) === round, 5000)).toBe(true);
    }
    expect((await echo.stop()).exitCode).toBe(0);
  });

  it('runUntil gives up on a process that died', async () => {
    const words = new Int32Array(mapping.buffer);
    const echo = await startEcho(words, fd, 0);
    using context = createNodeAioContext();
    const toParent = createSharedDoorbell({
      words,
      notifyMeIndex: PARENT_NOTIFY_ME,
      eventFd: echo.parentEvent,
    });
    using _ = toParent.receive(context, () => false);
    echo.program.process.kill('SIGKILL');
    expect(await echo.program.channel.next()).toBeUndefined();
    expect(context.runUntil(() => Atomics.load(words, PONG) === 1, 20)).toBe(false);
    await echo.program.stop();
    echo.childEvent.close();
    echo.parentEvent.close();
  });
});
