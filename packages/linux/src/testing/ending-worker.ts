/**
 * A process of which only a worker thread loads the FFI, and that ends while the worker watches descriptors: by `exit` of the
 * process, by `terminate` of the thread, or by what the thread `throw`s; or by `exitNow` while the thread does not answer and what
 * it watches is ready. Its exit code is `ENDED`.
 */
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

export type EndOfWorker = 'exit' | 'terminate' | 'throw' | 'exitNow';
export const ENDED = 7;

async function runMain(end: EndOfWorker): Promise<void> {
  const { promise: isWatching, resolve: hear } = Promise.withResolvers<void>();
  const { promise: hasEnded, resolve: hearEnd } = Promise.withResolvers<void>();
  const worker = new Worker(new URL(import.meta.url), { workerData: end });
  worker.on('message', () => hear());
  worker.on('error', () => {});
  worker.on('exit', () => hearEnd());
  await isWatching;
  if (end === 'terminate') await worker.terminate();
  else if (end === 'throw') await hasEnded;
  else if (end === 'exitNow') (await import('../exit-now.ts')).exitNow(ENDED);
  process.exit(ENDED);
}

async function runWorker(end: EndOfWorker): Promise<void> {
  const { socketPair } = await import('../socket-calls.ts');
  const { UnixStream } = await import('../unix-stream.ts');
  const { EventFd } = await import('../event-fd.ts');
  const { watchReadable } = await import('../watch.ts');
  const eventFd = EventFd.create();
  watchReadable(eventFd.fd, () => {});
  for (const fd of socketPair()) UnixStream.fromFd(fd).onData(() => {});
  if (end === 'exitNow') {
    setImmediate(() => {
      eventFd.write();
      parentPort!.postMessage('watching');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });
    return;
  }
  parentPort!.postMessage('watching');
  if (end === 'throw') {
    setImmediate(() => {
      throw new Error('on purpose');
    });
  }
}

if (!isMainThread) await runWorker(workerData as EndOfWorker);
else if (process.argv[1]?.endsWith('ending-worker.ts')) await runMain(process.argv[2] as EndOfWorker);
