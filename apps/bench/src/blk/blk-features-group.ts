import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { type NamedVariant, PACKED_VARIANTS, SPLIT_VARIANTS, variants } from '../lab/driver-variant.ts';
import { type Lab, type LabGuest, featureBuses, guestOnEachBus, startLab } from '../lab/lab.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { makeDiskFile } from './blk-group.ts';
import { type BlockIo, DEPTH_MAX } from './block-io.ts';
import type { DiskPlan } from './disk-backend.ts';
import { type FilePeer, openFilePeer } from './file-peer.ts';

export const BLK_FEATURES_TEXT: GroupText = {
  title: 'Disk: features',
  method: [
    `**Ring features**: random reads of 4 KiB from memory, ${DEPTH_MAX} in flight, with a driver that accepts one set of ring features or another: a split ring with indirect descriptors and event indices is what drivers take by default; direct is without INDIRECT_DESC, flags without EVENT_IDX, 2 queues with VIRTIO_BLK_F_MQ. Split and packed rings have machines of their own; the same guest changes between the features of one format by resetting its device.`,
    `**Merging**: 4 KiB block after block, ${DEPTH_MAX} in flight, from and to a raw file in the page cache; with merging the device does requests that follow each other on the disk as one operation of the backend.`,
    '**Peers**: the plain file of the group before, with `fs.read` at the same depth, or synchronous calls one after the other.',
  ],
  findings: [
    'With many in flight both sides are awake, so suppression by flags costs as little as by event indices. Indirect descriptors take a descriptor of the ring for a request instead of three, which matters to rings that would be full. Two queues of one domain share its one thread and its one loop: they cost a look more and bring nothing here.',
    'Merging saves system calls of the backend, which are most of what a request to a file costs.',
  ],
};

const MULTIQUEUE: NamedVariant = { words: 'split, 2 queues', queueCount: 2 };

export async function runBlkFeatures(plan: BenchPlan): Promise<ComparisonReport[]> {
  const path = makeDiskFile(plan.folder);
  using file = openFilePeer(path);
  return [...(await runRings(plan, file)), ...(await runMerging(plan, file, path))];
}

async function runRings(plan: BenchPlan, file: FilePeer): Promise<ComparisonReport[]> {
  const disk: DiskPlan = { backend: 'memory', path: '', queueCount: 2 };
  const buses = featureBuses(plan);
  const start = (): Promise<Lab> =>
    startLab({ dom0: 'blk/blk-dom0', guest: 'blk/blk-guest', guests: guestOnEachBus(disk, buses) });
  await using split = await start();
  await using own = plan.isBrief === true ? undefined : await start();
  const packed = own ?? split;
  const reports: ComparisonReport[] = [];
  for (const [bus, words] of buses) {
    const contenders = [
      ...[...variants(plan, SPLIT_VARIANTS), MULTIQUEUE].map((variant) => reader(split, bus, variant)),
      ...variants(plan, PACKED_VARIANTS).map((variant) => reader(packed, bus, variant)),
      file.threads(false, DEPTH_MAX),
    ];
    reports.push(
      await compare(
        { title: `Ring features, ${words}`, operation: 'request', contenders, runShare: 0.5 },
        plan,
      ),
    );
  }
  return reports;
}

function reader(lab: Lab, bus: string, { words, ...variant }: NamedVariant): Contender {
  const io = { variant, isWrite: false, depth: DEPTH_MAX };
  return lab.contender(`virtlab, ${words}`, bus, (count): BlockIo => ({ ...io, count }));
}

async function runMerging(plan: BenchPlan, file: FilePeer, path: string): Promise<ComparisonReport[]> {
  const buses = featureBuses(plan);
  const ways = plan.isBrief === true ? [true] : [true, false];
  const guests: [string, LabGuest][] = buses.flatMap(([bus]) =>
    ways.map((isMerging): [string, LabGuest] => [
      guestOf(bus, isMerging),
      { bus, device: { backend: 'raw file', path, isMerging } satisfies DiskPlan },
    ]),
  );
  await using lab = await startLab({
    dom0: 'blk/blk-dom0',
    guest: 'blk/blk-guest',
    guests: Object.fromEntries(guests),
  });
  const reports: ComparisonReport[] = [];
  for (const isWrite of [false, true]) {
    const io = { isWrite, isSequential: true, depth: DEPTH_MAX };
    const ours = buses.flatMap(([bus, words]) =>
      ways.map((isMerging) =>
        lab.contender(
          `virtlab, ${words}, ${isMerging ? 'merging' : 'one by one'}`,
          guestOf(bus, isMerging),
          (count): BlockIo => ({ ...io, count }),
        ),
      ),
    );
    const contenders = [...ours, file.sync(isWrite, true)];
    const title = `Merging, raw file, sequential ${isWrite ? 'write' : 'read'}`;
    reports.push(await compare({ title, operation: 'request', contenders, runShare: 0.5 }, plan));
  }
  return reports;
}

function guestOf(bus: string, isMerging: boolean): string {
  return `${bus}-${isMerging ? 'merging' : 'one-by-one'}`;
}
