/** A queue thread that, before it does anything, has the image replaced by the file beside it that is to replace it. */
import { renameSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import type { QueueThreadData } from '../queue-messages.ts';

const { plan } = workerData as QueueThreadData;
try {
  renameSync(`${plan.file}.new`, plan.file!);
} catch (error) {
  // Another thread has done it.
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
await import('../queue-thread.ts');
