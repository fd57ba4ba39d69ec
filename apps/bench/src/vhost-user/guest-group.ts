import { BLOCK_SIZE } from '../blk/block-positions.ts';
import { compare } from '../compare.ts';
import type { BenchPlan } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { TRANSFER_SIZE } from './disk-client.ts';
import { ImageFolder } from './disk-image.ts';
import { GuestDisks, type GuestWork } from './guest-disks.ts';

export const VHOST_USER_GUEST_TEXT: GroupText = {
  title: 'Disks of a Linux guest',
  method: [
    'Debian’s Linux in a machine of QEMU 7.2 with one processor, without KVM (TCG), which has disks of 64 MiB of five kinds at once: three of `virtlab vhost-user-blk`, with a raw file, with a raw file and **--poll-us 50** in place of 200, and in memory; one of `qemu-storage-daemon` (**qsd**), both behind `vhost-user-blk-pci`, and one of QEMU itself, **virtio-blk-pci**, served by its own threads. Raw files lie on a tmpfs.',
    'In the guest, `dd` of busybox with O_DIRECT, one request after the other; the time is the guest’s own, and the start of `dd` is in it. The beginning of each disk was verified by its checksum before. Runs are three times as long as elsewhere. CPU is that of QEMU and of the process that serves the disk; **CPU of the device** that of the latter alone, which for virtio-blk-pci is a part of QEMU.',
  ],
  findings: [
    'Most of a request is the guest: translated code of its block layer and interrupt, and the way from the register that kicks to an eventfd and back. That is the same for all and is in all figures; what differs is who wakes up, and where. A device that still looks for work when the next kick comes answers at once; one that sleeps is woken, on a processor that may sleep as well. By default ours looks for up to 200 µs, if that pays, which is longer than a guest under TCG takes from one request to the next; it costs processor time that on two cores others could have used. With 50 µs it looks in vain, and is woken as well.',
  ],
};

interface Row extends GuestWork {
  readonly title: string;
}

const ROWS: readonly Row[] = [
  { title: '4 KiB reads, one at a time', isWrite: false, size: BLOCK_SIZE },
  { title: '4 KiB writes, one at a time', isWrite: true, size: BLOCK_SIZE },
  { title: '128 KiB reads, one at a time', isWrite: false, size: TRANSFER_SIZE },
];
/** The guest's scheduling and the start of a program are in a run. */
const RUN_SHARE = 3;

export async function runVhostUserGuest(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using stack = new AsyncDisposableStack();
  const images = stack.use(new ImageFolder(plan.folder, plan.onMissing));
  const disks = await GuestDisks.start(plan, images, stack);
  const reports: ComparisonReport[] = [];
  for (const { title, ...work } of ROWS) {
    const contenders = disks.contenders(work);
    const comparison = {
      title,
      operation: 'request',
      operationSize: work.size,
      contenders,
      runShare: RUN_SHARE,
    };
    reports.push(await compare(comparison, plan));
  }
  return reports;
}
