import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { type CRing, compileCRing } from '../peers/c-ring.ts';
import { startPortEcho } from '../peers/port-peer.ts';
import { startSocketEcho } from '../peers/socket-peer.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { type RingPair, startRingPair } from './ring-pair.ts';
import { BATCH_COUNT, RING_SIZE, type RingPlan, type WaitMode } from './shared-ring.ts';

export const RING_PROCESSES_TEXT: GroupText = {
  title: 'Rings between two processes',
  method: [
    'The driver half is in one process and the device half in another, over a shared memfd; each format of ring has two processes of its own. **Polling**: neither side sleeps, for as long as a run lasts; a side that has seen no progress for 100 µs naps, and one that sees none for two seconds gives up. **Sleeping**: the thread of a side sleeps on an eventfd that the other writes for each doorbell. **Event loop**: both sides are on an event loop that sleeps as soon as there is nothing to do, or **adaptive** looks for up to 50 µs before, as it does by default; the eventfd is then written only if the other side sleeps. Wake-ups are the kicks and calls that took a system call.',
    `**Ring kept full**: ${RING_SIZE} entries, buffers of 4 bytes alternately carry a number to the device and back, and every number is checked. Both sides publish after at most ${BATCH_COUNT} buffers. **Peers** move as many messages of the same size there and back with as many outstanding: \`node:net\` over a Unix socket to another process, once with all messages that are due in one write and once with a write each; and a \`MessagePort\` to a worker thread, which has no batches.`,
    "**ringtest** is the shape of Linux' `tools/virtio/ringtest`: one descriptor a buffer, nobody touches its bytes, each is published at once by either side; a batch is how many buffers the driver adds before it asks about a kick, outstanding how many may be in the ring. **vringh_test** is the shape of `vringh_test --parallel`: transfers of 4 bytes, alternately to the device and back, in one to four buffers, each published and asked about at once; the device asks about a call when it runs dry. Fewer transfers than there.",
    '**C** is a split ring of our own for the same two shapes (`peers/c/ring-pair.c`), compiled when the benchmark starts (`gcc -O2`), two processes and eventfds as ours. It checks nothing that the other side wrote, and keeps its free list private. Neither it nor ours is pinned to processors, and neither imitates the cost of leaving a virtual machine.',
    "**Published** figures, in nanoseconds, are those of Linux' own programs on a machine like this one at another time: ringtest's `virtio_ring_0_9`, two pinned threads, with 500 cycles burnt on either side of each doorbell; `vringh_test`, Linux' `virtio_ring.c` and `vringh.c` in two processes, whose figures beside the time are kicks and calls for a transfer.",
  ],
  findings: [
    'Polled, the time is that of cache lines that change sides, as in C: two for each buffer of a split ring, its entry and its index, one of a packed one. It holds only while both sides have a processor: when something else runs, a polling side gives its own away after 100 µs in vain, and the figure becomes that of the scheduler; see the greatest value. With one outstanding nothing but the way of one line there and back is left.',
    'Sleeping, a wake-up takes tens of microseconds and is shared by the buffers that one side handles in one go, at most a ring full: large rings are what helps. Adaptive polling saves most of the wake-ups, if there are processors to spare. Suppression by flags asks for a kick whenever the device is awake to see it; event indices ask for one only when it sleeps.',
    'Publishing each buffer, as ringtest does, costs ours two atomics for a buffer on either side, some 8 ns each, which C has for the price of a plain store; in batches they vanish. A budget for sides that sleep holds while each has a processor: when they share one, the time is the sum of what both do, and with one to four buffers in a transfer, each asked about by itself, that is more than the budget. The CPU column says when it was so: it is then as large as the time.',
    'A Unix socket that gets all messages that are due in one write pays two system calls for up to 256 messages and copies 1 KiB: with messages of 4 bytes it is hard to beat. With a write for each message, as a program that has one message at a time must do it, the ring is far ahead.',
  ],
};

const POLL: WaitMode = { kind: 'poll' };
const BLOCK: WaitMode = { kind: 'block' };
const LOOP: WaitMode = { kind: 'loop', spinMaxNs: 0 };
const ADAPTIVE: WaitMode = { kind: 'loop', spinMaxNs: 50_000 };
/** Design §5. */
const BUDGET_POLLING_NS = 100;
const BUDGET_SLEEPING_NS = 220;
const UNLIMITED = 2 ** 31 - 1;

interface Pairs {
  readonly split: RingPair;
  readonly packed: RingPair;
  readonly c: CRing | undefined;
}

export async function runRingProcesses(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using split = startRingPair();
  await using packed = startRingPair();
  const pairs: Pairs = { split, packed, c: compileCRing(plan) };
  const reports = [await keptFull(plan, pairs)];
  for (const shape of plan.isBrief === true ? RINGTESTS.slice(2, 4) : RINGTESTS)
    reports.push(...(await ringtest(plan, pairs, shape)));
  for (const shape of plan.isBrief === true ? TRANSFERS.slice(-1) : TRANSFERS)
    reports.push(...(await transfers(plan, pairs, shape)));
  return reports;
}

async function keptFull(plan: BenchPlan, { split, packed }: Pairs): Promise<ComparisonReport> {
  await using socket = await startSocketEcho(plan.folder);
  await using port = startPortEcho();
  const window = RING_SIZE;
  const ours = (pair: RingPair, isPacked: boolean): Contender[] => {
    const format = isPacked ? 'packed' : 'split';
    const work = { plan: ringOf(isPacked), workload: { kind: 'numbers' } } as const;
    const budget = (ns: number): number | undefined => (isPacked ? undefined : ns);
    return [
      pair.contender(`virtlab, ${format}, polling`, {
        ...work,
        mode: POLL,
        budgetNs: budget(BUDGET_POLLING_NS),
      }),
      pair.contender(`virtlab, ${format}, event loop`, {
        ...work,
        mode: LOOP,
        budgetNs: budget(BUDGET_SLEEPING_NS),
      }),
      pair.contender(`virtlab, ${format}, event loop, adaptive`, { ...work, mode: ADAPTIVE }),
    ];
  };
  const contenders = [
    ...ours(split, false),
    ...ours(packed, true),
    socket.contender({ name: 'Unix socket, batched', window, isBatched: true }),
    socket.contender({ name: 'Unix socket', window, isBatched: false }),
    port.contender('MessagePort', window),
  ];
  return await compare({ title: '4-byte buffers, ring kept full', operation: 'buffer', contenders }, plan);
}

interface RingtestShape {
  readonly size: number;
  readonly batch: number;
  readonly outstanding: number;
  readonly isSleeping: boolean;
  readonly published: string;
}

const RINGTESTS: readonly RingtestShape[] = [
  { size: 256, batch: 1, outstanding: UNLIMITED, isSleeping: false, published: '103 (102–104)' },
  { size: 256, batch: 1, outstanding: 1, isSleeping: false, published: '1,081' },
  { size: 256, batch: 1, outstanding: UNLIMITED, isSleeping: true, published: '178' },
  { size: 256, batch: 16, outstanding: UNLIMITED, isSleeping: true, published: '142' },
  { size: 256, batch: 1, outstanding: 1, isSleeping: true, published: '44,400' },
  { size: 16, batch: 1, outstanding: UNLIMITED, isSleeping: false, published: '98' },
  { size: 64, batch: 1, outstanding: UNLIMITED, isSleeping: false, published: '105' },
  { size: 1024, batch: 1, outstanding: UNLIMITED, isSleeping: false, published: '100' },
  { size: 16, batch: 16, outstanding: UNLIMITED, isSleeping: true, published: '3,869' },
  { size: 64, batch: 16, outstanding: UNLIMITED, isSleeping: true, published: '837' },
  { size: 1024, batch: 16, outstanding: UNLIMITED, isSleeping: true, published: '68–74' },
];

async function ringtest(plan: BenchPlan, pairs: Pairs, shape: RingtestShape): Promise<ComparisonReport[]> {
  const { size, batch, outstanding, isSleeping, published } = shape;
  const workload = { kind: 'ringtest', batch, outstanding } as const;
  const mode = isSleeping ? BLOCK : POLL;
  const isBudgeted = !isSleeping && size === RING_SIZE && outstanding === UNLIMITED;
  const work = { workload, mode, budgetNs: isBudgeted ? BUDGET_POLLING_NS : undefined };
  const args = ['--size', size, '--batch', batch, '--outstanding', outstanding].map(String);
  const contenders = [
    pairs.split.contender('virtlab, split', { ...work, plan: ringOf(false, { size }) }),
    pairs.packed.contender('virtlab, packed', { ...work, plan: ringOf(true, { size }) }),
    ...(pairs.c === undefined
      ? []
      : [pairs.c.contender([...args, ...(isSleeping ? ['--sleep'] : [])], published)]),
  ];
  const limit = outstanding === 1 ? ', 1 outstanding' : `, batch ${batch}`;
  const title = `ringtest: ${isSleeping ? 'sleeping' : 'polling'}, ring ${size}${limit}`;
  return [await compare({ title, operation: 'buffer', contenders, runShare: 0.5 }, plan)];
}

interface TransferShape {
  readonly title: string;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly args: readonly string[];
  readonly published: string;
  readonly budgetNs?: number;
}

const TRANSFERS: readonly TransferShape[] = [
  {
    title: 'flags',
    eventIdx: false,
    indirect: false,
    args: ['--flags'],
    published: '950–1,210; 0.99, 0.009',
  },
  {
    title: 'event index',
    eventIdx: true,
    indirect: false,
    args: [],
    published: '221–243; 0.005, 0.010',
    budgetNs: BUDGET_SLEEPING_NS,
  },
  {
    title: 'event index, indirect',
    eventIdx: true,
    indirect: true,
    args: ['--indirect'],
    published: '202–231; 0.002, 0.004',
  },
];

async function transfers(plan: BenchPlan, pairs: Pairs, shape: TransferShape): Promise<ComparisonReport[]> {
  const { title, eventIdx, indirect, args, published, budgetNs } = shape;
  const work = { workload: { kind: 'transfer' }, mode: BLOCK, budgetNs } as const;
  const contenders = [
    pairs.split.contender('virtlab, split', { ...work, plan: ringOf(false, { eventIdx, indirect }) }),
    pairs.packed.contender('virtlab, packed', { ...work, plan: ringOf(true, { eventIdx, indirect }) }),
    ...(pairs.c === undefined ? [] : [pairs.c.contender(['--sleep', '--transfer', ...args], published)]),
  ];
  return [
    await compare(
      { title: `vringh_test: sleeping, ring ${RING_SIZE}, ${title}`, operation: 'transfer', contenders },
      plan,
    ),
  ];
}

function ringOf(packed: boolean, { size = RING_SIZE, eventIdx = true, indirect = false } = {}): RingPlan {
  return { size, features: { packed, eventIdx, indirect } };
}
