import { createNetDriver } from '@virtlab/virtio-net';
import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { BUSES, type Lab, guestOnEachBus, startLab } from '../lab/lab.ts';
import { createMemoryLink } from '../lab/memory-link.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { CardRunner, type CardWork } from './card-runner.ts';
import { BATCH_COUNT } from './frames.ts';
import { createCard } from './station.ts';
import { startStreamPeer } from './stream-peer.ts';

export const NET_TEXT: GroupText = {
  title: 'Network: frames between domU and domain 0',
  method: [
    `**Sent**: numbered frames as fast as the card takes them, a kick after ${BATCH_COUNT}, through a learning switch to a station that checks that each is the next; the clock stops when its answer to the last one has come back through the card. **Received**: the station sends and the domU checks, and reports after every ${BATCH_COUNT} frames, for the station never is more ahead than the card's ring holds. A frame lost makes the run fail. The driver copies a frame once into the ring's memory, the switch's side once to the station.`,
    '**memory**: all in one thread on the in-memory transport. **pci** in an HVM domain, **xenbus** by the native profile and by the **register page** of 2011 in PV domains: the driver in a domU, card, switch and station in domain 0, each a process, with the default adaptive polling. Driver and device are the same code in all four; kicks and calls are those of the driver. CPU is that of both domains and of the process that asks them.',
    `**Peer**: the same frames with a length before each over a Unix socket (\`node:net\`) to another process that checks them alike, ${BATCH_COUNT} in a write, no switch; it is the same for both directions.`,
  ],
  findings: [
    "Small frames are work for each frame: a ring entry, the switch's table, two short copies. The socket joins 32 of them into one copy through the kernel and takes them apart again; with frames of 64 bytes that is cheaper. With frames of 1500 bytes its two copies through the kernel cost more than all of that.",
    'Between processes both sides work at the same time; a side that has work is awake and needs no doorbell, so kicks and calls are few.',
  ],
};

interface Direction {
  readonly kind: 'send' | 'receive';
  readonly words: string;
}

const DIRECTIONS: readonly Direction[] = [
  { kind: 'send', words: 'sent' },
  { kind: 'receive', words: 'received' },
];
const FRAME_SIZES = [64, 1500] as const;

export async function runNet(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using lab = await startLab({
    dom0: 'net/net-dom0',
    guest: 'net/net-guest',
    guests: guestOnEachBus({}),
  });
  await using memory = createMemoryLink(createCard());
  await using driver = await createNetDriver(memory.link, { aio: memory.aio });
  await using stream = await startStreamPeer(plan.folder);
  const runner = new CardRunner(driver);
  const reports: ComparisonReport[] = [];
  for (const { kind, words } of DIRECTIONS) {
    for (const size of plan.isBrief === true ? FRAME_SIZES.slice(-1) : FRAME_SIZES) {
      const contenders = [...ours(runner, lab, { kind, size }), stream.contender(size)];
      const title = `${size}-byte frames, ${words}`;
      reports.push(await compare({ title, operation: 'frame', contenders }, plan));
    }
  }
  return reports;
}

function ours(runner: CardRunner, lab: Lab, work: Omit<CardWork, 'count'>): Contender[] {
  const request = (count: number): CardWork => ({ ...work, count });
  return [
    { name: 'virtlab, memory', isPeer: false, pids: [], run: (count) => runner.run(request(count)) },
    ...BUSES.map(([bus, words]) => lab.contender(`virtlab, ${words}`, bus, request)),
  ];
}
