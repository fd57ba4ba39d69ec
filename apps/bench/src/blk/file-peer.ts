import { closeSync, openSync, read, readSync, write, writeSync } from 'node:fs';
import { type Contender, type RunResult, elapsedNs, timeNs } from '../contender.ts';
import { BLOCK_SIZE, BlockPositions } from './block-positions.ts';
import { DEPTH_MAX } from './block-io.ts';

/** The plain file, as a program without any disk of ours would use it. */
export interface FilePeer extends Disposable {
  /** Calls of `fs.read` or `fs.write` with a callback, `depth` at once: the thread pool. */
  threads(isWrite: boolean, depth: number): Contender;
  /** Calls of `fs.readSync` or `fs.writeSync`, one after the other. */
  sync(isWrite: boolean, isSequential?: boolean): Contender;
}

export function openFilePeer(path: string): FilePeer {
  const fd = openSync(path, 'r+');
  const positions = new BlockPositions();
  const blocks = Array.from({ length: DEPTH_MAX }, () => Buffer.alloc(BLOCK_SIZE));
  return {
    threads: (isWrite, depth) => ({
      name: isWrite ? 'fs.write' : 'fs.read',
      isPeer: true,
      pids: [],
      run: (count) => runThreads(fd, isWrite, blocks.slice(0, depth), positions, count),
    }),
    sync: (isWrite, isSequential = false) => ({
      name: isWrite ? 'fs.writeSync' : 'fs.readSync',
      isPeer: true,
      pids: [],
      run: (count) => {
        const next = (): number => (isSequential ? positions.following() : positions.next());
        const elapsed = timeNs(() => runSync(fd, isWrite, blocks[0]!, next, count));
        return { operationCount: count, elapsedNs: elapsed };
      },
    }),
    [Symbol.dispose]: () => closeSync(fd),
  };
}

async function runThreads(
  fd: number,
  isWrite: boolean,
  blocks: readonly Buffer[],
  positions: BlockPositions,
  count: number,
): Promise<RunResult> {
  const done = Promise.withResolvers<void>();
  let begun = 0;
  let ended = 0;
  const submit = (block: Buffer): void => {
    begun += 1;
    const position = positions.next() * BLOCK_SIZE;
    const onEnd = (error: Error | null, size: number): void => {
      if (error !== null || size !== BLOCK_SIZE) done.reject(error ?? new Error(`Only ${size} bytes moved`));
      ended += 1;
      if (begun < count) submit(block);
      else if (ended === count) done.resolve();
    };
    if (isWrite) write(fd, block, 0, BLOCK_SIZE, position, onEnd);
    else read(fd, block, 0, BLOCK_SIZE, position, onEnd);
  };
  const start = performance.now();
  for (const block of blocks.slice(0, count)) submit(block);
  await done.promise;
  return { operationCount: count, elapsedNs: elapsedNs(start) };
}

function runSync(fd: number, isWrite: boolean, block: Buffer, next: () => number, count: number): void {
  for (let i = 0; i < count; i += 1) {
    const position = next() * BLOCK_SIZE;
    const size = isWrite
      ? writeSync(fd, block, 0, BLOCK_SIZE, position)
      : readSync(fd, block, 0, BLOCK_SIZE, position);
    if (size !== BLOCK_SIZE) throw new Error(`Only ${size} bytes moved`);
  }
}
