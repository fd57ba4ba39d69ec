// Our xenstored as a process. Argument: the path of its socket. Answers with what it holds in memory.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startXenstored } from '@virtlab/xenstore/node';
import { serveParent } from '../child.ts';

/** After a full collection. Sizes in bytes. */
export interface OurMemory {
  readonly heapUsedSize: number;
  readonly nodeCount: number;
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
setFlagsFromString('--no-expose-gc');

const starting = startXenstored({ socketPath: process.argv[2]! });

serveParent(async (): Promise<OurMemory> => {
  const { store } = await starting;
  collect();
  return { heapUsedSize: process.memoryUsage().heapUsed, nodeCount: store.nodeCount };
});
