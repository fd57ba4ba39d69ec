import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { createMemoryLink } from '../lab/memory-link.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { DISK_SIZE } from './block-positions.ts';
import { BACKEND_NAMES, type BackendName, type DiskPlan, createDisk } from './disk-backend.ts';
import { type FilePeer, openFilePeer } from './file-peer.ts';
import { DEPTH_MAX, type RandomIo, RandomIoRunner } from './random-io.ts';

export const BLK_TEXT: GroupText = {
  title: 'Disk: 4 KiB random access',
  method: [
    'Requests of 4 KiB all over a disk of 64 MiB, 1 or 32 in flight, through the data plane of the driver (`submitRead`, `submitWrite`: nothing is copied or allocated for a request but by the backend). The backends are one that moves no data, memory, and a raw file in the page cache, read and written with synchronous calls.',
    '**memory**: driver and device in one thread on the in-memory transport. **pci** and **xenbus**: the driver in a domU, the device in domain 0, each a process, with the default adaptive polling. Driver and device are the same code in all three; kicks and calls are those of the driver.',
    '**Peers**: a file of the same size in the page cache, accessed by a plain program: `fs.read` and `fs.write` with callbacks at the same depth (four threads of the pool), and `fs.readSync` and `fs.writeSync` one after the other. They are the same beside every backend, but measured anew with each. No access is made durable.',
  ],
  findings: [
    'The driver, the ring, the device and the null backend together take about half a microsecond for a request when many are in flight (memory transport). With one in flight each request takes a turn of the event loop on either side.',
    'Between processes and with few in flight, time is waiting for the other side: two wake-ups of tens of microseconds for a request unless the side that waits is still looking. Which of the two it is decides the figure, not the transport; the kicks and calls of a row say how often it was a wake-up. xenbus takes more than pci for mapping and unmapping the granted page of each request.',
    "A synchronous read of a file in the page cache crosses to nobody and copies once: a disk in another process cannot be as fast at depth 1. A file of the peer's thread pool pays for a wake-up too. Writes to a file take four times as long as reads, by any way: the file system's own work.",
  ],
};

const DEPTHS = [1, DEPTH_MAX] as const;

export async function runBlk(plan: BenchPlan): Promise<ComparisonReport[]> {
  const path = join(plan.folder, 'disk.img');
  writeFileSync(path, new Uint8Array(DISK_SIZE).fill(0xa5));
  using file = openFilePeer(path);
  const reports: ComparisonReport[] = [];
  for (const backend of plan.isBrief === true ? BACKEND_NAMES.slice(-1) : BACKEND_NAMES) {
    reports.push(...(await runBackend({ backend, path }, file, plan)));
  }
  return reports;
}

async function runBackend(disk: DiskPlan, file: FilePeer, plan: BenchPlan): Promise<ComparisonReport[]> {
  await using lab = await startLab('blk/blk-dom0', disk, 'blk/blk-guest');
  await using memory = createMemoryLink(await createDisk(disk));
  await using driver = await createBlkDriver(memory.link, { aio: memory.aio });
  const runner = new RandomIoRunner(driver);
  const reports: ComparisonReport[] = [];
  for (const isWrite of [false, true]) {
    for (const depth of DEPTHS) {
      const contenders = [
        ...ours(runner, lab, { isWrite, depth }),
        file.threads(isWrite, depth),
        file.sync(isWrite),
      ];
      const title = `${describe(disk.backend)}, ${isWrite ? 'write' : 'read'}, ${depth} in flight`;
      reports.push(await compare({ title, operation: 'request', contenders }, plan));
    }
  }
  return reports;
}

function ours(runner: RandomIoRunner, lab: Lab, io: Omit<RandomIo, 'count'>): Contender[] {
  const request = (count: number): RandomIo => ({ ...io, count });
  return [
    { name: 'virtlab, memory', isPeer: false, run: (count) => runner.run(request(count)) },
    lab.contender('virtlab, pci', 'pci', request),
    lab.contender('virtlab, xenbus', 'xenbus', request),
  ];
}

function describe(backend: BackendName): string {
  return backend === 'null' ? 'No data moved' : backend === 'memory' ? 'Memory' : 'Raw file';
}
