import { Worker } from 'node:worker_threads';
import { WORKER_OPTIONS, moduleUrl } from '../child.ts';
import { type Contender, type RunResult, elapsedNs } from '../contender.ts';

/** A worker thread that sends back every message. */
export interface PortEcho extends AsyncDisposable {
  /** Numbers through a `MessagePort`, each answered by one; `window` of them sent and not answered. */
  contender(name: string, window: number): Contender;
}

export function startPortEcho(): PortEcho {
  const worker = new Worker(moduleUrl('peers/port-echo-worker'), WORKER_OPTIONS);
  return {
    contender: (name, window) => ({
      name,
      isPeer: true,
      pids: [], // the worker is a thread of this process
      run: (count) => exchange(worker, count, window),
    }),
    [Symbol.asyncDispose]: async () => void (await worker.terminate()),
  };
}

async function exchange(worker: Worker, count: number, window: number): Promise<RunResult> {
  const done = Promise.withResolvers<void>();
  let sent = 0;
  let answered = 0;
  const send = (): void => {
    while (sent < count && sent - answered < window) {
      worker.postMessage(sent);
      sent += 1;
    }
  };
  const onMessage = (message: unknown): void => {
    if (message !== answered)
      done.reject(new Error(`Message ${String(message)} came instead of ${answered}`));
    answered += 1;
    if (answered === count) done.resolve();
    else send();
  };
  worker.on('message', onMessage);
  worker.once('error', done.reject);
  const start = performance.now();
  send();
  try {
    await done.promise;
    return { operationCount: count, elapsedNs: elapsedNs(start) };
  } finally {
    worker.off('message', onMessage);
    worker.off('error', done.reject);
  }
}
