import { EventFd, closeFd, memfdCreate } from '@virtlab/linux';
import { startChild } from '../child.ts';
import type { Contender, RunResult } from '../contender.ts';
import {
  type DeviceQuestion,
  type DeviceTotals,
  type DriverQuestion,
  type DriverTotals,
  MEMORY_SIZE,
  type RingPlace,
  type RingPlan,
  type WaitMode,
  type Workload,
} from './shared-ring.ts';

export interface RingWork {
  readonly plan: RingPlan;
  readonly workload: Workload;
  readonly mode: WaitMode;
  readonly budgetNs?: number | undefined;
}

/** Two processes with the two halves of a ring, which is made anew when the next work wants another one. */
export interface RingPair extends AsyncDisposable {
  contender(name: string, work: RingWork): Contender;
}

export function startRingPair(): RingPair {
  const memoryFd = memfdCreate('bench-ring', MEMORY_SIZE);
  const kick = EventFd.create();
  const call = EventFd.create();
  const fds = [memoryFd, kick.fd, call.fd];
  const driver = startChild('ring-processes/driver-process', [], fds);
  const device = startChild('ring-processes/device-process', [], fds);
  closeFd(memoryFd);
  kick.close();
  call.close();
  const askDriver = (question: DriverQuestion): Promise<unknown> => driver.ask(question);
  const askDevice = (question: DeviceQuestion): Promise<unknown> => device.ask(question);
  let opened = '';

  const open = async (plan: RingPlan): Promise<void> => {
    const key = JSON.stringify(plan);
    if (key === opened) return;
    opened = '';
    await askDriver({ op: 'close' });
    const place = (await askDriver({ op: 'open', plan })) as RingPlace;
    await askDevice({ op: 'open', plan, place });
    opened = key;
  };
  const run = async ({ workload, mode }: RingWork, count: number): Promise<RunResult> => {
    const asked = { workload, mode, count };
    await askDevice({ op: 'start', run: asked });
    const { elapsedNs, kicks, wakeUps } = (await askDriver({ op: 'run', run: asked })) as DriverTotals;
    const totals = (await askDevice({ op: 'stop' })) as DeviceTotals;
    const doorbells = { kicks, calls: totals.calls, wakeUps: wakeUps + totals.wakeUps };
    return { operationCount: count, elapsedNs, doorbells };
  };
  return {
    contender: (name, work) => ({
      name,
      isPeer: false,
      budgetNs: work.budgetNs,
      pids: [driver.pid, device.pid],
      prepare: () => open(work.plan),
      run: (count) => run(work, count),
    }),
    [Symbol.asyncDispose]: async () => {
      await driver[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
    },
  };
}
