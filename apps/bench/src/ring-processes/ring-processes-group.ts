import { compare } from '../compare.ts';
import type { BenchPlan } from '../contender.ts';
import { startPortEcho } from '../peers/port-peer.ts';
import { startSocketEcho } from '../peers/socket-peer.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { startRingPair } from './ring-pair.ts';
import { BATCH_COUNT, RING_SIZE } from './shared-ring.ts';

export const RING_PROCESSES_TEXT: GroupText = {
  title: 'Split ring between two processes',
  method: [
    `The driver half is in one process and the device half in another, over a shared memfd. The ring has ${RING_SIZE} entries and is kept full; buffers of 4 bytes alternately carry a number to the device and back, and every number is checked. Both sides publish after at most ${BATCH_COUNT} buffers.`,
    '**Polling**: neither side sleeps, for as long as a run lasts; a side that sees no progress for two seconds gives up. **Sleeping**: both sides are on an event loop that sleeps as soon as there is nothing to do, with EVENT_IDX and an eventfd for each direction that is written only if the other side sleeps. **Sleeping, adaptive**: the same loops look for up to 50 µs before they sleep, as they do by default. Wake-ups are the kicks and calls that took a system call.',
    `**Peers** move as many messages of the same size there and back with as many outstanding: \`node:net\` over a Unix socket to another process, once with all messages that are due in one write and once with a write each; and a \`MessagePort\` to a worker thread, which has no batches.`,
    "Reference, not from this run and not on this machine's present state: Linux' C ring in ringtest 102 ns polled (`virtio_ring_0_9`, two threads, no data touched); Linux' own driver and vringh in vringh_test 221–243 ns sleeping with EVENT_IDX (two processes, 4 bytes).",
  ],
  findings: [
    'Polled, the time is that of two cache lines that change sides, as in C. It holds only while both sides have a processor: when something else runs, a polling side gives its own away after 100 µs in vain, and the figure becomes that of the scheduler; see the greatest value.',
    'Sleeping, a wake-up takes tens of microseconds and is shared by the buffers that one side handles in one go, at most a ring full. Adaptive polling saves most of the wake-ups, if there are processors to spare.',
    'A Unix socket that gets all messages that are due in one write pays two system calls for up to 256 messages and copies 1 KiB: with messages of 4 bytes it is hard to beat. With a write for each message, as a program that has one message at a time must do it, the ring is far ahead.',
  ],
};

export async function runRingProcesses(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using pair = await startRingPair();
  await using socket = await startSocketEcho(plan.folder);
  await using port = startPortEcho();
  const window = RING_SIZE;
  const contenders = [
    pair.contender('virtlab, polling', { kind: 'poll' }, 100),
    pair.contender('virtlab, sleeping', { kind: 'sleep', spinMaxNs: 0 }, 220),
    pair.contender('virtlab, sleeping, adaptive', { kind: 'sleep', spinMaxNs: 50_000 }, 220),
    socket.contender({ name: 'Unix socket, batched', window, isBatched: true }),
    socket.contender({ name: 'Unix socket', window, isBatched: false }),
    port.contender('MessagePort', window),
  ];
  return [await compare({ title: '4-byte buffers, ring kept full', operation: 'buffer', contenders }, plan)];
}
