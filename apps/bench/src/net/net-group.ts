import { createNetDriver } from '@virtlab/virtio-net';
import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { createMemoryLink } from '../lab/memory-link.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { type Flood, FloodRunner } from './flood.ts';
import { BATCH_COUNT } from './frames.ts';
import { createCard } from './station.ts';
import { startStreamPeer } from './stream-peer.ts';

export const NET_TEXT: GroupText = {
  title: 'Network: frames from domU to domain 0',
  method: [
    `Numbered frames as fast as the card takes them, a kick after ${BATCH_COUNT}, through a learning switch to a station that checks that each is the next; the clock stops when its answer to the last one has come back through the card. A frame lost makes the run fail. The driver copies a frame once into the ring's memory, the switch's side once to the station.`,
    '**memory**: all in one thread on the in-memory transport. **pci** and **xenbus**: the driver in a domU, card, switch and station in domain 0, each a process, with the default adaptive polling. Driver and device are the same code in all three; kicks and calls are those of the driver.',
    `**Peer**: the same frames with a length before each over a Unix socket (\`node:net\`) to another process that checks them alike, ${BATCH_COUNT} in a write, no switch.`,
  ],
  findings: [
    "Small frames are work for each frame: a ring entry, the switch's table, two short copies. The socket joins 32 of them into one copy through the kernel and takes them apart again; with frames of 64 bytes that is cheaper. With frames of 1500 bytes its two copies through the kernel cost more than all of that.",
    'Between processes both sides work at the same time; a side that has work is awake and needs no doorbell, so kicks and calls are few.',
  ],
};

const FRAME_SIZES = [64, 1500] as const;

export async function runNet(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using lab = await startLab('net/net-dom0', {}, 'net/net-guest');
  await using memory = createMemoryLink(createCard());
  await using driver = await createNetDriver(memory.link, { aio: memory.aio });
  await using stream = await startStreamPeer(plan.folder);
  const runner = new FloodRunner(driver);
  const reports: ComparisonReport[] = [];
  for (const size of FRAME_SIZES) {
    const contenders = [...ours(runner, lab, size), stream.contender(size)];
    reports.push(await compare({ title: `${size}-byte frames`, operation: 'frame', contenders }, plan));
  }
  return reports;
}

function ours(runner: FloodRunner, lab: Lab, size: number): Contender[] {
  const request = (count: number): Flood => ({ size, count });
  return [
    { name: 'virtlab, memory', isPeer: false, run: (count) => runner.run(request(count)) },
    lab.contender('virtlab, pci', 'pci', request),
    lab.contender('virtlab, xenbus', 'xenbus', request),
  ];
}
