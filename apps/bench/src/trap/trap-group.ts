import type { DomId } from '@virtlab/abi/brands';
import type { PollingOptions } from '@virtlab/aio/node';
import { moduleUrl } from '../child.ts';
import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { type BenchMachine, startMachine } from '../lab/machine.ts';
import { startPortEcho } from '../peers/port-peer.ts';
import { startSocketEcho } from '../peers/socket-peer.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import type { TrapGuestPlan } from './trap-dom0.ts';
import type { TrapRequest } from './trap-messages.ts';

export const TRAP_TEXT: GroupText = {
  title: 'Trapped access to a PCI device',
  method: [
    "An HVM domain reads a register of a device that domain 0 models, both processes: the access goes into the ioreq page, the doorbell of the other domain is rung, and the domain stands still until the answer is in the page. **Configuration space** is a function's vendor id, **memory space** a register of its common configuration.",
    'A kick is what the driver pays for it: by a **doorbell**, a bit in shared memory and a wake-up if the device sleeps, or by a **trapped** 16-bit write, which is over when the device has seen it. **Adaptive**: both loops look for up to 50 µs before they sleep, the default. **Sleeping**: they sleep at once.',
    '**Peers**: 4 bytes there and back over a Unix socket (`node:net`, another process), and a number over a `MessagePort` (a worker thread), one at a time; beside kicks, 32 under way.',
  ],
  findings: [
    'Adaptive, an access is two cache lines handed over and back, with a turn of the event loop of the device model between. Sleeping, it is two system calls and two wake-ups, as an event channel round trip is; the page and the dispatch of the access hardly show.',
    'A doorbell costs its atomics while the device is awake, and a system call when it sleeps; it never waits for the device. A trapped write waits each time, which is why data planes do not trap.',
  ],
};

export async function runTrap(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using adaptive = await startSide(undefined);
  await using sleeping = await startSide({ maxNs: 0 });
  await using socket = await startSocketEcho(plan.folder);
  await using port = startPortEcho();
  const peers = (window: number): Contender[] => [
    socket.contender({ name: 'Unix socket', window, isBatched: true }),
    port.contender('MessagePort', window),
  ];
  const reads = (op: 'config' | 'register'): Contender[] => [
    adaptive.contender('virtlab, adaptive', (count) => ({ op, count })),
    sleeping.contender('virtlab, sleeping', (count) => ({ op, count })),
    ...peers(1),
  ];
  const kicks = (isTrapped: boolean, what: string): Contender[] => [
    adaptive.contender(`virtlab, ${what}, adaptive`, (count) => ({ op: 'kick', isTrapped, count })),
    sleeping.contender(`virtlab, ${what}, sleeping`, (count) => ({ op: 'kick', isTrapped, count })),
  ];
  const kick = [...kicks(false, 'doorbell'), ...kicks(true, 'trapped'), ...peers(32)];
  return [
    await compare({ title: 'Configuration space', operation: 'read', contenders: reads('config') }, plan),
    await compare({ title: 'Memory space', operation: 'read', contenders: reads('register') }, plan),
    await compare({ title: 'Kick', operation: 'kick', contenders: kick }, plan),
  ];
}

/** Domain 0 and an HVM guest, both with the same polling. */
interface TrapSide extends AsyncDisposable {
  contender(name: string, request: (count: number) => TrapRequest): Contender;
}

async function startSide(polling: PollingOptions | undefined): Promise<TrapSide> {
  const machine = startMachine();
  try {
    const dom0 = await machine.startDomain('trap/trap-dom0', { polling });
    const plan: TrapGuestPlan = { module: moduleUrl('trap/trap-guest').href, polling };
    const guest = (await machine.request(dom0, plan)) as DomId;
    await machine.untilUp(guest);
    return {
      contender: (name, request) => contender(machine, [dom0, guest], name, request),
      [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
    };
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

function contender(
  machine: BenchMachine,
  domains: readonly [dom0: DomId, guest: DomId],
  name: string,
  request: (count: number) => TrapRequest,
): Contender {
  const ask = (domain: DomId, asked: TrapRequest): Promise<unknown> => machine.request(domain, asked);
  const wakeUps = async (): Promise<number> => {
    const counts = await Promise.all(domains.map((domain) => ask(domain, { op: 'wakeUps' })));
    return (counts as number[]).reduce((sum, count) => sum + count, 0);
  };
  return {
    name,
    isPeer: false,
    pids: machine.pidsOf(domains),
    run: async (count) => {
      const before = await wakeUps();
      const asked = request(count);
      const elapsedNs = (await ask(domains[1], asked)) as number;
      const woken = (await wakeUps()) - before;
      const kicks = asked.op === 'kick' ? count : 0;
      return { operationCount: count, elapsedNs, doorbells: { kicks, calls: 0, wakeUps: woken } };
    },
  };
}
