import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Testpmd, startTestpmd, testpmdUnavailable } from '@virtlab/dpdk';
import type { BenchPlan, Contender, RunResult } from '../contender.ts';
import { cpuNsOf } from '../cpu-meter.ts';
import { CardPair } from './card-pair.ts';
import { leaveOut } from './foreign-process.ts';
import { DEVICE_CPU } from './served-disks.ts';
import { startVirtlab } from './virtlab-daemon.ts';

/** Between two looks at a counter. */
const LOOK_MS = 10;
const TIMEOUT_MS = 20_000;

export function hasTestpmd(onMissing: BenchPlan['onMissing']): boolean {
  const reason = testpmdUnavailable();
  if (reason !== undefined) leaveOut(`dpdk-testpmd: ${reason}`, onMissing);
  return reason === undefined;
}

/** A contender's run, with the processor time of the device in it. */
async function metered(pid: number, run: () => Promise<RunResult>): Promise<RunResult> {
  const before = cpuNsOf([pid]);
  const result = await run();
  const after = cpuNsOf([pid]);
  if (before === undefined || after === undefined) return result;
  return { ...result, counts: { [DEVICE_CPU]: (after - before) / 1000 } };
}

/** testpmd looks for work all the time: it forwards only while `run` runs. */
async function forwarding(programs: readonly Testpmd[], run: () => Promise<RunResult>): Promise<RunResult> {
  for (const each of programs) await each.start();
  try {
    return await run();
  } finally {
    for (const each of programs) await each.stop();
  }
}

/** Frames of `size` bytes through a switch, between two cards of one client. */
export interface SwitchedCards {
  contender(size: number): Contender;
}

/** Ours, and testpmd which passes on between two ports. All in `stack`. */
export async function startSwitches(
  { folder, onMissing }: BenchPlan,
  stack: AsyncDisposableStack,
): Promise<readonly SwitchedCards[]> {
  const paths = (name: string): readonly [string, string] => [
    join(folder, `${name}-0.sock`),
    join(folder, `${name}-1.sock`),
  ];
  const ours = paths('switch');
  const daemon = stack.use(
    await startVirtlab('vhost-user-net', ...ours.flatMap((path) => ['--socket-path', path])),
  );
  const pair = stack.use(await CardPair.connect(ours));
  const found: SwitchedCards[] = [
    {
      contender: (size) => ({
        name: 'virtlab, switch',
        isPeer: false,
        pids: [daemon.pid],
        run: (count) => metered(daemon.pid, () => pair.run(size, count)),
      }),
    },
  ];
  if (!hasTestpmd(onMissing)) return found;
  const theirs = paths('testpmd');
  const testpmd = stack.use(
    await startTestpmd({ ports: theirs.map((path) => ({ kind: 'net_vhost', path })), forwardMode: 'io' }),
  );
  const other = stack.use(await CardPair.connect(theirs));
  found.push({
    contender: (size) => ({
      name: 'testpmd, io',
      isPeer: true,
      pids: [testpmd.pid],
      run: (count) => forwarding([testpmd], () => metered(testpmd.pid, () => other.run(size, count))),
    }),
  });
  return found;
}

/** testpmd as a driver that sends frames of `size` bytes as fast as it can, into a device that has nowhere to send to. */
export interface Flood {
  contender(size: number): Contender;
}

/** Into our daemon and into testpmd, from a sender each. All in `stack`. */
export async function startFloods(
  { folder, onMissing }: BenchPlan,
  stack: AsyncDisposableStack,
): Promise<readonly Flood[]> {
  if (!hasTestpmd(onMissing)) return [];
  const [ours, theirs] = [join(folder, 'flood.sock'), join(folder, 'testpmd-flood.sock')];
  const daemon = stack.use(await startVirtlab('vhost-user-net', '--allow-shrink', '--socket-path', ours));
  const sink = stack.use(
    await startTestpmd({ ports: [{ kind: 'net_vhost', path: theirs }], forwardMode: 'rxonly' }),
  );
  const flood = async (name: string, path: string, devicePid: number, device?: Testpmd): Promise<Flood> => {
    const port = { kind: 'net_virtio_user', path } as const;
    const sender = stack.use(await startTestpmd({ ports: [port], forwardMode: 'txonly' }));
    const programs = device === undefined ? [sender] : [device, sender];
    const run = async (size: number, count: number): Promise<RunResult> => {
      await sender.command(`set txpkts ${size}`);
      return await forwarding(programs, () => metered(devicePid, () => countSent(sender, count)));
    };
    const isPeer = device !== undefined;
    const pids = [devicePid, sender.pid];
    return { contender: (size) => ({ name, isPeer, pids, run: (count) => run(size, count) }) };
  };
  return [
    await flood('virtlab, switch', ours, daemon.pid),
    await flood('testpmd, rxonly', theirs, sink.pid, sink),
  ];
}

/** Waits until so many packets were taken from the sender; says how many, and how long that took. */
async function countSent(sender: Testpmd, count: number): Promise<RunResult> {
  const sent = async (): Promise<readonly [number, number]> => {
    const [port] = await sender.portStatistics();
    return [port!.txPackets, performance.now()];
  };
  const [before, start] = await sent();
  for (;;) {
    await sleep(LOOK_MS);
    const [after, now] = await sent();
    if (after - before >= count) return { operationCount: after - before, elapsedNs: (now - start) * 1e6 };
    if (now - start > TIMEOUT_MS) {
      throw new Error(`${after - before} of ${count} packets of testpmd were taken: ${sender.log}`);
    }
  }
}
