import { BLOCK_SIZE, DISK_SIZE } from '../blk/block-positions.ts';
import { compare } from '../compare.ts';
import type { BenchPlan } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { CopyAlone } from './copy-alone.ts';
import { BUFFER_SIZE, DEPTH_MAX, type DiskWork, TRANSFER_DEPTH, TRANSFER_SIZE } from './disk-client.ts';
import { ImageFolder, randomContents } from './disk-image.ts';
import { diskContender, serveDisks } from './served-disks.ts';

export const VHOST_USER_BLK_TEXT: GroupText = {
  title: 'Disks over vhost-user',
  method: [
    'Disks of 64 MiB that other processes serve: `virtlab vhost-user-blk` with each of its backends, started as a user starts it, and `qemu-storage-daemon` (**qsd**) of QEMU 7.2. All have the same **client**, the batch face of `@virtlab/blkio` in the process that measures: a split ring of 256 entries, indirect descriptors and event index; it looks for completions all the time, takes what there is, and submits as many again.',
    'A ratio is made between what does the same: **null** and **null-co** touch no data. **memory** copies from and to a disk in its memory; **null-co, read-zeroes** fills what is read with zeroes and does nothing with what is written, so for writes it is no equal. **A copy alone** is the same bytes moved between such a disk and such buffers in the process that measures, by the same call, without any request: what is left when everything else costs nothing. **raw file**: files of the same contents, each its own, on a tmpfs; memory beside it is what serving from memory is worth.',
    'Every disk that holds anything was read, written and read again by checksum before, and all were asked for a second or so, for ours is compiled while it runs. Kicks and calls are those of the client. **CPU of the device** is that of the process that serves the disk, all threads, CPU that of both processes. MB are 10⁶ bytes.',
  ],
  findings: [
    'One request at a time is a hand-over between two cores, and for whoever sleeps a kick and a wake-up: ours looks for work for a bounded time before it sleeps, which answers the next request without either, and costs processor time while there is none. qsd goes to sleep after each batch.',
    'With more under way a request of ours costs a few lines for each descriptor, checked, and a share of one publication; qsd starts a coroutine for each and takes memory for it. The client works on the other core at the same time, at 0.1 to 0.2 µs for a request, which is not far from what a device takes that touches no data: there elapsed time tells devices apart badly. The processor time of ours is no measure of its work then, for it looks for more meanwhile.',
    'With data the copy counts: a disk of 64 MiB does not fit into the caches, and neither do 128 KiB of each request in flight on both sides. That is why memory takes longer than null-co with read-zeroes, which has nothing to fetch: a copy alone takes longer than that, or nearly as long. It matters how the two lie in their pages: a disk that began 16 bytes behind the beginning of a page, where an allocator puts it, took a fifth longer for 4 KiB and twice as long for writes of 128 KiB. Huge pages behind it changed nothing. Large requests come down to what memory gives, whoever asks. A raw file is a system call or more for a request, or for a batch of neighbours; there the page cache makes the copy.',
  ],
};

interface Row extends DiskWork {
  readonly title: string;
}

/** There are many contenders, and a run has thousands of requests anyway. */
const RUN_SHARE = 0.5;
const DEPTHS = [1, 32, DEPTH_MAX] as const;

function* rows(): Generator<Row> {
  for (const isWrite of [false, true]) {
    const what = isWrite ? 'writes' : 'reads';
    for (const depth of DEPTHS) {
      const title = `4 KiB random ${what}, ${depth === 1 ? 'one at a time' : `${depth} in flight`}`;
      yield { title, isWrite, isSequential: false, size: BLOCK_SIZE, depth };
    }
    const title = `128 KiB sequential ${what}, ${TRANSFER_DEPTH} in flight`;
    yield { title, isWrite, isSequential: true, size: TRANSFER_SIZE, depth: TRANSFER_DEPTH };
  }
}

export async function runVhostUserBlk(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using stack = new AsyncDisposableStack();
  const images = stack.use(new ImageFolder(plan.folder, plan.onMissing));
  const disks = await serveDisks(plan, images, stack);
  const copy = new CopyAlone(randomContents(DISK_SIZE), BUFFER_SIZE);
  const reports: ComparisonReport[] = [];
  for (const { title, ...work } of rows()) {
    const contenders = [...disks.map((disk) => diskContender(disk, work)), copy.contender(work)];
    const operationSize = work.size;
    const comparison = { title, operation: 'request', operationSize, contenders, runShare: RUN_SHARE };
    reports.push(await compare(comparison, plan));
  }
  return reports;
}
