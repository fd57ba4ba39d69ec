/** A queue thread that throws when it is told to serve, while there is a file beside its image that says so. */
import { existsSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import type { QueueThreadData, ToQueueThread } from '../queue-messages.ts';

await import('../queue-thread.ts');
const { plan } = workerData as QueueThreadData;

parentPort!.on('message', ({ kind }: ToQueueThread) => {
  if (kind !== 'serve' || !existsSync(`${plan.file}.fail`)) return;
  // Behind the handshake, or in the middle of it.
  setTimeout(() => {
    throw new Error('on purpose');
  }, 50);
});
