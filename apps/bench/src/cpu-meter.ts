import { readFileSync, readdirSync } from 'node:fs';

/**
 * Processor time of processes, in nanoseconds since each began: all their threads, user and system. Undefined where the system
 * does not tell (it is Linux that does), or when one of them is gone.
 */
export function cpuNsOf(pids: readonly number[]): number | undefined {
  try {
    return pids.reduce((sum, pid) => sum + processCpuNs(pid), 0);
  } catch {
    return undefined;
  }
}

/** The scheduler's own count, the first word of schedstat: finer than the ticks of `stat`. */
function processCpuNs(pid: number): number {
  const folder = `/proc/${pid}/task`;
  return readdirSync(folder).reduce((sum, task) => {
    const words = readFileSync(`${folder}/${task}/schedstat`, 'latin1').split(' ', 1);
    return sum + Number(words[0]);
  }, 0);
}
