import type { DirtyLog } from './dirty-log.ts';
import type { QueueObserver } from './observed-queue.ts';

/** Marks the used ring at its log address each time that something was published in it ("Migration"). */
export function usedRingLog(log: DirtyLog, logAddress: bigint, size: number): QueueObserver {
  const start = Number(logAddress);
  return { published: () => log.mark(start, size) };
}
