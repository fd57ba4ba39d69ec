/** A queue thread that says it is ready, and ends without a word when it is told to serve. */
import { parentPort } from 'node:worker_threads';
import type { FromQueueThread, ToQueueThread } from '../queue-messages.ts';

const tell = (message: FromQueueThread): void => parentPort!.postMessage(message);

parentPort!.on('message', ({ kind }: ToQueueThread) => {
  if (kind === 'serve') process.exit(7);
  if (kind !== 'end') return;
  tell({ kind: 'closed', problem: undefined });
  parentPort!.close();
});
tell({ kind: 'ready', configSize: 60 });
