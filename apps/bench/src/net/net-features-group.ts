import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { PACKED_VARIANTS, SPLIT_VARIANTS, variants } from '../lab/driver-variant.ts';
import { type Lab, type LabGuest, featureBuses, guestOnEachBus, startLab } from '../lab/lab.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import type { CardWork } from './card-runner.ts';
import { LARGE_SIZE, SEGMENT_COUNT, SEGMENT_SIZE } from './segments.ts';
import type { CardPlan } from './station.ts';
import { type StreamPeer, startStreamPeer } from './stream-peer.ts';

export const NET_FEATURES_TEXT: GroupText = {
  title: 'Network: features',
  method: [
    'Machines, stations and peer as in the group before. **Ring features**: frames of 64 bytes sent by a driver that accepts one set of ring features or another; split and packed rings have machines of their own.',
    `**Segmentation**: TCP over IPv4 with ${LARGE_SIZE} bytes of payload at a time (${SEGMENT_COUNT} segments), checksums included. Offloaded, the driver hands the device one large frame with CSUM and HOST_TSO4 negotiated, and the station takes it so; in software, nothing is negotiated, and the driver cuts the frame and works the checksums out itself. The station copies what it gets and looks at every sequence number. The peer moves as many bytes in one message over the socket.`,
    '**Receive buffers**: frames of 1500 bytes received, with MRG_RXBUF and without. **Queue pairs**: TCP segments of four streams by turns, over one pair or two (MQ). **When to look**: the device takes frames when the kick comes, in a bottom half of the same turn of its loop (`tx=bh`), or 150 µs later (`tx=timer`).',
  ],
  findings: [
    'Segmentation in software reads each byte once for the checksum beside the copies and takes a ring entry for each segment; offloaded, a frame of 64 KiB costs little more than its copies.',
    'A timer gathers frames into larger batches and saves kicks, and makes everybody wait for it: with a ring of 256 entries it bounds the rate to what the ring holds in that time.',
    'Two pairs of queues of one domain share its thread and its loop; they order the flows but bring no second processor.',
  ],
};

type Named = readonly [words: string, guest: string, work: Omit<CardWork, 'count'>];

const FLOW_COUNT = 4;

export async function runNetFeatures(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using stream = await startStreamPeer(plan.folder);
  const reports = [...(await runWithLab(plan, stream)), ...(await runWhen(plan, stream))];
  return reports;
}

async function runWithLab(plan: BenchPlan, stream: StreamPeer): Promise<ComparisonReport[]> {
  const card: CardPlan = { queuePairs: 2 };
  const start = (): Promise<Lab> =>
    startLab({
      dom0: 'net/net-dom0',
      guest: 'net/net-guest',
      guests: guestOnEachBus(card, featureBuses(plan)),
    });
  await using split = await start();
  await using own = plan.isBrief === true ? undefined : await start();
  const packed = own ?? split;
  const reports: ComparisonReport[] = [];
  for (const [bus, words] of featureBuses(plan)) {
    const base = { kind: 'send', size: 64 } as const;
    const contenders = [
      ...rows(
        split,
        variants(plan, SPLIT_VARIANTS).map((variant): Named => [variant.words, bus, { ...base, variant }]),
      ),
      ...rows(
        packed,
        variants(plan, PACKED_VARIANTS).map((variant): Named => [variant.words, bus, { ...base, variant }]),
      ),
      stream.contender(base.size),
    ];
    const title = `Ring features, ${words}, 64-byte frames`;
    reports.push(await compare({ title, operation: 'frame', contenders, runShare: 0.5 }, plan));
  }
  reports.push(await segmentation(plan, split, stream));
  reports.push(await receiveBuffers(plan, split, stream));
  reports.push(await queuePairs(plan, split, stream));
  return reports;
}

async function segmentation(plan: BenchPlan, lab: Lab, stream: StreamPeer): Promise<ComparisonReport> {
  const ways = [
    ['offloaded', true],
    ['in software', false],
  ] as const;
  const ours = featureBuses(plan).flatMap(([bus, words]) =>
    ways.map(([way, isOffloading]): Named => [
      `${words}, ${way}`,
      bus,
      { kind: 'segments', size: LARGE_SIZE, variant: { isOffloading } },
    ]),
  );
  const contenders = [...rows(lab, ours), stream.contender(LARGE_SIZE)];
  return await compare({ title: 'Segmentation', operation: 'large frame', contenders, runShare: 0.5 }, plan);
}

async function receiveBuffers(plan: BenchPlan, lab: Lab, stream: StreamPeer): Promise<ComparisonReport> {
  const size = 1500;
  const ours = featureBuses(plan).flatMap(([bus, words]) =>
    [true, false].map((isMerging): Named => [
      `${words}, ${isMerging ? 'mergeable' : 'whole'}`,
      bus,
      { kind: 'receive', size, variant: { isMerging } },
    ]),
  );
  const contenders = [...rows(lab, ours), stream.contender(size)];
  return await compare({ title: 'Receive buffers', operation: 'frame', contenders, runShare: 0.5 }, plan);
}

async function queuePairs(plan: BenchPlan, lab: Lab, stream: StreamPeer): Promise<ComparisonReport> {
  const ours = featureBuses(plan).flatMap(([bus, words]) =>
    [1, 2].map((queueCount): Named => [
      `${words}, ${queueCount} pair${queueCount > 1 ? 's' : ''}`,
      bus,
      { kind: 'segments', size: SEGMENT_SIZE, flowCount: FLOW_COUNT, variant: { queueCount } },
    ]),
  );
  const contenders = [...rows(lab, ours), stream.contender(SEGMENT_SIZE)];
  return await compare({ title: 'Queue pairs', operation: 'segment', contenders, runShare: 0.5 }, plan);
}

async function runWhen(plan: BenchPlan, stream: StreamPeer): Promise<ComparisonReport[]> {
  const modes = (['kick', 'bh', 'timer'] as const).slice(plan.isBrief === true ? -1 : 0);
  const guests = featureBuses(plan).flatMap(([bus]) =>
    modes.map((tx): [string, LabGuest] => [`${bus}-${tx}`, { bus, device: { tx } satisfies CardPlan }]),
  );
  await using lab = await startLab({
    dom0: 'net/net-dom0',
    guest: 'net/net-guest',
    guests: Object.fromEntries(guests),
  });
  const size = 64;
  const ours = featureBuses(plan).flatMap(([bus, words]) =>
    modes.map((tx): Named => [`${words}, tx=${tx}`, `${bus}-${tx}`, { kind: 'send', size }]),
  );
  const contenders = [...rows(lab, ours), stream.contender(size)];
  return [await compare({ title: 'When to look', operation: 'frame', contenders, runShare: 0.5 }, plan)];
}

function rows(lab: Lab, named: readonly Named[]): Contender[] {
  return named.map(([words, guest, work]) =>
    lab.contender(`virtlab, ${words}`, guest, (count): CardWork => ({ ...work, count })),
  );
}
