/**
 * A queue thread of which the first throws when it is told to serve, or when it starts, while there is a file beside its image that says
 * so: one alone, so that none is left to throw in the connection after.
 */
import { existsSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import type { QueueThreadData, ToQueueThread } from '../queue-messages.ts';

const { plan, isFirst } = workerData as QueueThreadData;
if (existsSync(`${plan.file}.absent`)) throw new Error('on purpose, from the start');
await import('../queue-thread.ts');

parentPort!.on('message', ({ kind }: ToQueueThread) => {
  if (kind !== 'serve' || !isFirst || !existsSync(`${plan.file}.fail`)) return;
  // Behind the handshake, or in the middle of it.
  setTimeout(() => {
    throw new Error('on purpose');
  }, 50);
});
