import { compare } from '../compare.ts';
import type { BenchPlan } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { GuestNetwork } from './guest-network.ts';
import { WRITE_SIZE } from './guest-transfer.ts';
import { startFloods, startSwitches } from './net-peers.ts';

export const VHOST_USER_NET_TEXT: GroupText = {
  title: 'Network over vhost-user',
  method: [
    '**Through a switch**: two cards of one process, ours, which sends numbered frames at one and checks at the other that each is the next, no more than 128 on their way. Between them `virtlab vhost-user-net` with two sockets, or **testpmd** of DPDK 22.11, which passes on what comes in at one `net_vhost` port to the other (`io`) and looks at no address. The client is the same, and takes calls by its loop, which looks for work for a bounded time before it sleeps. Kicks and calls are those of both cards.',
    '**Flood**: testpmd as the driver (`net_virtio_user`, `txonly`), one process for each device; packets are counted that the device took. The device is our daemon, or a testpmd that receives and forgets (`rxonly`); ours looks up where each frame should go, finds nowhere, and copies nothing; testpmd copies each into a buffer. The daemon is told to take memory that can shrink (`--allow-shrink`), which DPDK’s can. Runs are four times as long.',
    '**Two Linux guests** (Debian’s Linux in QEMU 7.2, one processor each, TCG) have two cables between them: one by `virtlab vhost-user-net` and one by QEMU’s own **-netdev stream**, a socket from QEMU to QEMU, each QEMU reading it in its main loop. Each card is as it comes: behind vhost-user, Linux leaves checksums and segmentation to the switch; QEMU’s stream has no header for that. `ping -A` of busybox sends the next echo request when the one before is answered; a transfer is a TCP connection over which a small program of Perl writes 64 KiB at a time, from its beginning until the other side has answered that it has all. The time is the guest’s own. What is sent was verified by checksum before.',
    'testpmd forwards only during its own runs: it never sleeps, and takes a core. **CPU of the device** is that of the process that holds the switch or takes the flood. Frames are without FCS; MB are 10⁶ bytes of frames.',
  ],
  findings: [
    'testpmd passes frames on in bursts of 32, in C, looks at no address and never waits for a wake-up; it copies each frame twice, into a buffer of its own and out of it. Ours learns and looks up addresses, checks headers and lengths, and copies once, from ring to ring; with small frames the work for each is all that counts.',
    'Through the switch our client is on the other core and does the same work for both; what it costs is in both figures.',
    'Between guests most is the guests’ own. With segmentation left to the switch a guest gives it packets of up to 64 KiB, which go to the other guest as they are; over QEMU’s stream each packet of 1500 bytes is one write and one read of a socket. An echo is a packet each way, and what counts is who wakes up: on two cores the daemon is a third process beside two busy ones.',
  ],
};

const FRAME_SIZES = [64, 1500] as const;
/** The sender of a flood is looked at from outside, and a guest has programs to start. */
const LONG_RUN_SHARE = 4;

export async function runVhostUserNet(plan: BenchPlan): Promise<ComparisonReport[]> {
  const sizes = plan.isBrief === true ? FRAME_SIZES.slice(-1) : FRAME_SIZES;
  return [
    ...(await compareSwitches(plan, sizes)),
    ...(await compareFloods(plan, sizes)),
    ...(await compareGuests(plan)),
  ];
}

async function compareSwitches(plan: BenchPlan, sizes: readonly number[]): Promise<ComparisonReport[]> {
  await using stack = new AsyncDisposableStack();
  const switches = await startSwitches(plan, stack);
  const reports: ComparisonReport[] = [];
  for (const size of sizes) {
    const contenders = switches.map((each) => each.contender(size));
    const title = `${size}-byte frames, through a switch`;
    reports.push(await compare({ title, operation: 'frame', operationSize: size, contenders }, plan));
  }
  return reports;
}

async function compareFloods(plan: BenchPlan, sizes: readonly number[]): Promise<ComparisonReport[]> {
  await using stack = new AsyncDisposableStack();
  const floods = await startFloods(plan, stack);
  if (floods.length === 0) return [];
  const reports: ComparisonReport[] = [];
  for (const size of sizes) {
    const contenders = floods.map((each) => each.contender(size));
    const title = `${size}-byte frames, a flood from testpmd`;
    const comparison = {
      title,
      operation: 'frame',
      operationSize: size,
      contenders,
      runShare: LONG_RUN_SHARE,
    };
    reports.push(await compare(comparison, plan));
  }
  return reports;
}

async function compareGuests(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using stack = new AsyncDisposableStack();
  const network = await GuestNetwork.start(plan, stack);
  if (network === undefined) return [];
  const runShare = LONG_RUN_SHARE;
  return [
    await compare(
      {
        title: 'Two Linux guests: TCP',
        operation: '64 KiB written',
        operationSize: WRITE_SIZE,
        contenders: network.transfers(),
        runShare,
      },
      plan,
    ),
    await compare(
      { title: 'Two Linux guests: echoes', operation: 'echo', contenders: network.echoes(), runShare },
      plan,
    ),
  ];
}
