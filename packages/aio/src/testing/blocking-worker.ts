/** The thread of the tests of `createBlockingAioContext`: counts kicks, answers calls, and does what its messages ask. */
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { EventFd, watchReadable } from '@virtlab/linux';
import { blockingThread } from '../node/blocking-thread.ts';
import { createBlockingAioContext } from '../node/index.ts';

export interface BlockingWorkerData {
  /** Descriptors: what the thread is kicked with, what it calls with, and one for 'watch'. */
  readonly kickFd: number;
  readonly callFd: number;
  readonly watchedFd: number;
}

export type BlockingWorkerRequest =
  | 'file'
  | 'watch'
  | 'watchInTask'
  | 'timeout'
  | 'timer'
  | 'unrefTimer'
  | 'busy'
  | 'idle'
  | 'immediates'
  | 'end';

const { kickFd, callFd, watchedFd } = workerData as BlockingWorkerData;
const port = parentPort!;
const context = await createBlockingAioContext({ polling: { maxNs: 0 } });
const call = EventFd.fromFd(callFd);
const notifier = context.createEventFdNotifier(EventFd.fromFd(kickFd));
context.addHandler(notifier, { onReady: () => call.write() });
const kernel = (await blockingThread()).createKernel();

/** Through Node's own loop. Calls when it watches. */
function watched(): Promise<unknown> {
  const eventFd = EventFd.fromFd(watchedFd);
  return new Promise((resolve) => {
    const watch = watchReadable(eventFd.fd, () => {
      eventFd.read();
      watch.close();
      resolve(true);
    });
    call.write();
  });
}

let isBusy = false;
const busy = context.createBottomHalf(() => {
  if (isBusy) busy.schedule();
});

const WORK: Record<BlockingWorkerRequest, () => Promise<unknown>> = {
  file: async () => (await readFile(import.meta.filename)).length > 0,
  // The loop is told of it from within one of its callbacks.
  watch: async () => await watched(),
  // From within a task that a turn schedules after an alarm: the loop itself has nothing to do in those rounds.
  watchInTask: async () =>
    await new Promise((resolve) => {
      const turn = (): void => void setImmediate(() => void watched().then(resolve));
      kernel.setAlarm!(kernel.now() + 3, () => kernel.schedule(turn));
    }),
  timeout: async () => await new Promise((resolve) => void setTimeout(resolve, 3, true)),
  timer: async () => await new Promise((resolve) => context.createTimer(() => resolve(true)).arm(3)),
  unrefTimer: async () =>
    await new Promise((resolve) => AbortSignal.timeout(3).addEventListener('abort', () => resolve(true))),
  // There is always another turn to run.
  busy: async () => {
    isBusy = true;
    busy.schedule();
    return true;
  },
  idle: async () => {
    isBusy = false;
    return true;
  },
  immediates: async () => {
    for (let count = 0; count < 20; count += 1) await new Promise((resolve) => void setImmediate(resolve));
    return true;
  },
  end: async () => {
    context.createTimer(() => {}).arm(60_000);
    context[Symbol.dispose]();
    setImmediate(() => port.close());
    return true;
  },
};

port.on('message', (request: BlockingWorkerRequest) => {
  void WORK[request]().then((answer) => port.postMessage(answer));
});
port.postMessage('ready');
