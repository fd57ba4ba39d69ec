import { PollSet, watchReadable } from '@virtlab/linux';
import { throwLater } from '../portable.ts';

/** What a `NodeAioContext` needs of Node and Linux, in one place so that its protocol can be run without them. */
export interface ContextKernel {
  /** Monotonic milliseconds with fraction. */
  now(): number;
  /** Runs `turn` in a task of its own. */
  schedule(turn: () => void): void;
  /** Calls `onReadable` from the event loop while the descriptor is readable. */
  watchReadable(fd: number, onReadable: () => void): { close(): void };
  /** Runs `wake` at `atMs` or a little later, instead of the alarm before. Infinity: no alarm. Default: setTimeout. */
  setAlarm?(atMs: number, wake: () => void): void;
  createPollSet(fds: readonly number[]): ReadableSet;
  /** Takes what a callback threw: a bug of its owner that the others must survive. */
  onError(error: unknown): void;
}

export interface ReadableSet {
  /** Blocks for `timeoutMs`, or until a descriptor is readable; how many are. */
  wait(timeoutMs: number): number;
  isReady(index: number): boolean;
}

export const NODE_KERNEL: ContextKernel = {
  now: () => performance.now(),
  schedule: (turn) => void setImmediate(turn),
  watchReadable,
  createPollSet(fds) {
    const set = new PollSet(fds.length);
    for (const fd of fds) set.add(fd);
    return set;
  },
  onError: throwLater,
};
