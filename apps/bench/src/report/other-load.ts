import { readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const SAMPLE_MS = 1000;
/** `USER_HZ`, in which Linux counts processor time for programs to read. */
const TICK_MS = 10;

/** The share of the processors' time that nobody wanted, over a second. */
export async function idleShare(): Promise<number> {
  const before = machineMs();
  await sleep(SAMPLE_MS);
  const after = machineMs();
  return (after.idle - before.idle) / (after.total - before.total);
}

/** Measures what others do from now on until it is asked. */
export function startOtherLoad(): () => number | undefined {
  const begin = performance.now();
  const busyBefore = busyMs();
  const oursBefore = ownTreeMs();
  return () => {
    const ours = ownTreeMs();
    if (ours === undefined || oursBefore === undefined) return undefined;
    const others = busyMs() - busyBefore - (ours - oursBefore);
    const share = others / ((performance.now() - begin) * availableParallelism());
    return Math.min(Math.max(share, 0), 1);
  };
}

function busyMs(): number {
  const { total, idle } = machineMs();
  return total - idle;
}

function machineMs(): { readonly total: number; readonly idle: number } {
  const times = cpus().map((each) => each.times);
  const idle = times.reduce((sum, each) => sum + each.idle, 0);
  return {
    total: times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, idle),
    idle,
  };
}

/** Of this process and of all its descendants that have ended: fields 14 to 17 of proc_pid_stat(5). */
function ownTreeMs(): number | undefined {
  try {
    const stat = readFileSync('/proc/self/stat', 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * TICK_MS, 0);
  } catch {
    return undefined;
  }
}
