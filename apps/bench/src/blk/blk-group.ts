import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { BUSES, type Lab, guestOnEachBus, startLab } from '../lab/lab.ts';
import { createMemoryLink } from '../lab/memory-link.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { DISK_SIZE } from './block-positions.ts';
import { type BlockIo, BlockIoRunner, DEPTH_MAX } from './block-io.ts';
import { type BackendName, type DiskPlan, createDisk } from './disk-backend.ts';
import { type FilePeer, openFilePeer } from './file-peer.ts';

export const BLK_TEXT: GroupText = {
  title: 'Disk: 4 KiB random access',
  method: [
    'Requests of 4 KiB all over a disk of 64 MiB, 1 or 32 in flight, through the data plane of the driver (`submitRead`, `submitWrite`: nothing is copied or allocated for a request but by the backend). The backends are one that moves no data, memory, and a raw file in the page cache, read and written with synchronous calls.',
    '**memory**: driver and device in one thread on the in-memory transport. **pci**: an HVM domain with a virtio-pci function; **xenbus**: a PV domain with the native profile; **xenbus register page**: a PV domain with the profile of 2011. In these three the driver is in a domU and the device in domain 0, each a process, with the default adaptive polling. Driver and device are the same code in all four; kicks and calls are those of the driver. CPU is that of both domains and of the process that asks them.',
    '**Peers**: a file of the same size in the page cache, accessed by a plain program: `fs.read` and `fs.write` with callbacks at the same depth (four threads of the pool), and `fs.readSync` and `fs.writeSync` one after the other. They are the same beside every backend, but measured anew with each. No access is made durable.',
  ],
  findings: [
    'The driver, the ring, the device and the null backend together take about half a microsecond for a request when many are in flight (memory transport). With one in flight each request takes a turn of the event loop on either side.',
    'Between processes and with few in flight, time is waiting for the other side: two wake-ups of tens of microseconds for a request unless the side that waits is still looking. Which of the two it is decides the figure, not the transport; the kicks and calls of a row say how often it was a wake-up. xenbus takes more than pci for mapping and unmapping the granted page of each request; the register page costs nothing on the data plane, for it is only looked at in between.',
    "A synchronous read of a file in the page cache crosses to nobody and copies once: a disk in another process cannot be as fast at depth 1. A file of the peer's thread pool pays for a wake-up too. Writes to a file take four times as long as reads, by any way: the file system's own work.",
  ],
};

const DEPTHS = [1, DEPTH_MAX] as const;

interface Disk {
  readonly backend: BackendName;
  readonly words: string;
  /** Without data a write is a read. */
  readonly directions: readonly boolean[];
}

const DISKS: readonly Disk[] = [
  { backend: 'null', words: 'No data moved', directions: [false] },
  { backend: 'memory', words: 'Memory', directions: [false, true] },
  { backend: 'raw file', words: 'Raw file', directions: [false, true] },
];

export async function runBlk(plan: BenchPlan): Promise<ComparisonReport[]> {
  const path = makeDiskFile(plan.folder);
  using file = openFilePeer(path);
  const reports: ComparisonReport[] = [];
  for (const disk of plan.isBrief === true ? DISKS.slice(-1) : DISKS) {
    reports.push(...(await runDisk(disk, path, file, plan)));
  }
  return reports;
}

/** An image without holes. */
export function makeDiskFile(folder: string): string {
  const path = join(folder, 'disk.img');
  writeFileSync(path, new Uint8Array(DISK_SIZE).fill(0xa5));
  return path;
}

async function runDisk(
  { backend, words, directions }: Disk,
  path: string,
  file: FilePeer,
  plan: BenchPlan,
): Promise<ComparisonReport[]> {
  const disk: DiskPlan = { backend, path };
  await using lab = await startLab({
    dom0: 'blk/blk-dom0',
    guest: 'blk/blk-guest',
    guests: guestOnEachBus(disk),
  });
  await using memory = createMemoryLink(await createDisk(disk));
  await using driver = await createBlkDriver(memory.link, { aio: memory.aio });
  const runner = new BlockIoRunner(driver);
  const reports: ComparisonReport[] = [];
  for (const isWrite of directions) {
    for (const depth of DEPTHS) {
      const contenders = [
        ...ours(runner, lab, { isWrite, depth }),
        file.threads(isWrite, depth),
        file.sync(isWrite),
      ];
      const title = `${words}, ${isWrite ? 'write' : 'read'}, ${depth} in flight`;
      reports.push(await compare({ title, operation: 'request', contenders }, plan));
    }
  }
  return reports;
}

function ours(runner: BlockIoRunner, lab: Lab, io: Omit<BlockIo, 'count'>): Contender[] {
  const request = (count: number): BlockIo => ({ ...io, count });
  return [
    { name: 'virtlab, memory', isPeer: false, pids: [], run: (count) => runner.run(request(count)) },
    ...BUSES.map(([bus, words]) => lab.contender(`virtlab, ${words}`, bus, request)),
  ];
}
