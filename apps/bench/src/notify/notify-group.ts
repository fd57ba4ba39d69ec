import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import type { PollingOptions } from '@virtlab/aio/node';
import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { type BenchMachine, startMachine } from '../lab/machine.ts';
import { startPortEcho } from '../peers/port-peer.ts';
import { startSocketEcho } from '../peers/socket-peer.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import type { PingRequest } from './ping-domain.ts';

export const NOTIFY_TEXT: GroupText = {
  title: 'Notification round trip',
  method: [
    'One domain sends an event, the other sends one back, one at a time; both are processes. The time is that of the round trip: two sends, two deliveries.',
    '**Busy**: both sides look at their pending bits without sleeping; what an event channel itself costs. **Adaptive**: both on event loops that look for up to 50 µs before they sleep, the default. **Sleeping**: the loops sleep at once, so that each event is a system call and a wake-up.',
    '**Peers**: 4 bytes there and back over a Unix socket (`node:net`, another process), and a number over a `MessagePort` (a worker thread).',
  ],
  findings: [
    'Busy, a round trip is two sends of three atomics each (pending bit, selector, upcall) and two dispatches of as many, and the cache lines in between.',
    "Sleeping, almost all of it is the kernel: an eventfd written, a process woken, its event loop entered, twice. Node's own socket takes the same way with a read more on each side. What is between is adaptive polling: it avoids a wake-up when the answer comes before the looking ends.",
  ],
};

export async function runNotify(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using machine = startMachine();
  const pairs = await Promise.all([startPair(machine, undefined), startPair(machine, { maxNs: 0 })]);
  const [adaptive, sleeping] = pairs;
  await using socket = await startSocketEcho(plan.folder);
  await using port = startPortEcho();
  const contenders = [
    contender('virtlab, busy', machine, adaptive, true),
    contender('virtlab, adaptive', machine, adaptive, false),
    contender('virtlab, sleeping', machine, sleeping, false),
    socket.contender({ name: 'Unix socket', window: 1, isBatched: true }),
    port.contender('MessagePort', 1),
  ];
  return [await compare({ title: 'Event channel', operation: 'round trip', contenders }, plan)];
}

interface Pair {
  readonly pinger: DomId;
  readonly ponger: DomId;
}

async function startPair(machine: BenchMachine, polling: PollingOptions | undefined): Promise<Pair> {
  const start = (): Promise<DomId> => machine.startDomain('notify/ping-domain', { polling });
  const [ponger, pinger] = await Promise.all([start(), start()]);
  const port = (await ask(machine, pinger, { op: 'listen', remote: ponger })) as EvtchnPort;
  await ask(machine, ponger, { op: 'bind', remote: pinger, port });
  // The first event of each side has its peer's pages mapped, for which the loop must run.
  await ask(machine, pinger, { op: 'ping', count: 1, isBusy: false });
  return { pinger, ponger };
}

function contender(name: string, machine: BenchMachine, pair: Pair, isBusy: boolean): Contender {
  return {
    name,
    isPeer: false,
    pids: machine.pidsOf([pair.pinger, pair.ponger]),
    run: async (count) => {
      const wakeUpsBefore = await wakeUpsOf(machine, pair);
      if (isBusy) await ask(machine, pair.ponger, { op: 'pong', count });
      const elapsedNs = (await ask(machine, pair.pinger, { op: 'ping', count, isBusy })) as number;
      const wakeUps = (await wakeUpsOf(machine, pair)) - wakeUpsBefore;
      return { operationCount: count, elapsedNs, doorbells: { kicks: count, calls: count, wakeUps } };
    },
  };
}

async function wakeUpsOf(machine: BenchMachine, { pinger, ponger }: Pair): Promise<number> {
  const counts = [pinger, ponger].map((domain) => ask(machine, domain, { op: 'wakeUps' }));
  return ((await Promise.all(counts)) as number[]).reduce((sum, count) => sum + count, 0);
}

async function ask(machine: BenchMachine, domain: DomId, request: PingRequest): Promise<unknown> {
  return await machine.request(domain, request);
}
