import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { EventFd } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { expect, it } from 'vitest';
import type { BlockingWorkerData, BlockingWorkerRequest } from '../testing/blocking-worker.ts';
import { createBlockingAioContext, createNodeAioContext } from './index.ts';

interface Thread {
  readonly ask: (request: BlockingWorkerRequest) => Promise<unknown>;
  /** Rings, and waits to be called. */
  readonly kick: () => Promise<void>;
  readonly nextCall: () => Promise<void>;
  readonly worker: Worker;
  readonly watched: EventFd;
}

/** A thread that blocks, its doorbells, and our loop. */
async function withThread(body: (thread: Thread) => Promise<void>): Promise<void> {
  using kick = EventFd.create();
  using call = EventFd.create();
  using watched = EventFd.create();
  using context = createNodeAioContext();
  using notifier = context.createEventFdNotifier(call);
  let called: (() => void) | undefined;
  using _ = context.addHandler(notifier, { onReady: () => called?.() });
  const workerData: BlockingWorkerData = { kickFd: kick.fd, callFd: call.fd, watchedFd: watched.fd };
  const worker = new Worker(new URL('../testing/blocking-worker.ts', import.meta.url), {
    workerData,
    execArgv: ['--conditions=@virtlab/source'],
  });
  const ended = once(worker, 'exit');
  expect(await once(worker, 'message')).toEqual(['ready']);
  const ask = async (request: BlockingWorkerRequest): Promise<unknown> => {
    worker.postMessage(request);
    return ((await once(worker, 'message')) as [unknown])[0];
  };
  const nextCall = async (): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    called = resolve;
    await promise;
  };
  const ring = async (): Promise<void> => {
    const answer = nextCall();
    kick.write();
    await answer;
  };
  await body({ ask, kick: ring, nextCall, worker, watched });
  await worker.terminate();
  await ended;
}

describeWithFfi('a thread that blocks', () => {
  it('is woken by its descriptors, each time', async () => {
    await withThread(async ({ kick }) => {
      let count = 0;
      for (; count < 200; count += 1) await kick();
      expect(count).toBe(200);
    });
  });

  it.each(['file', 'timeout', 'timer', 'unrefTimer', 'immediates'] as const)(
    'and by what Node’s loop has to do: messages, %s',
    async (request) => {
      await withThread(async ({ ask, kick }) => {
        for (let count = 0; count < 5; count += 1) {
          expect(await ask(request)).toBe(true);
          await kick();
        }
      });
    },
  );

  it('sees its descriptors while there is always another turn to run', async () => {
    await withThread(async ({ ask, kick }) => {
      expect(await ask('busy')).toBe(true);
      for (let count = 0; count < 20; count += 1) await kick();
      expect(await ask('idle')).toBe(true);
      await kick();
    });
  });

  it.each([
    ['a callback of Node’s loop', 'watch'],
    ['a task, in a round in which the loop had no part,', 'watchInTask'],
  ] as const)('takes on what %s begins to watch, before it blocks again', async (_, request) => {
    await withThread(async ({ ask, nextCall, watched }) => {
      for (let count = 0; count < 50; count += 1) {
        const answer = ask(request);
        await nextCall();
        watched.write();
        expect(await answer).toBe(true);
      }
    });
  });

  it('ends when it is terminated, and by itself when nothing of it is left', async () => {
    await withThread(async () => {});
    await withThread(async ({ ask, worker }) => {
      const ended = once(worker, 'exit');
      await ask('end');
      expect(await ended).toEqual([0]);
    });
  });

  it('does not hold up a thread on which there is nothing to wait for', async () => {
    const context = await createBlockingAioContext();
    expect(context.leaks()).toEqual([]);
    context[Symbol.dispose]();
  });
});
