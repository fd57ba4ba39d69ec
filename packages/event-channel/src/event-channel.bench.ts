/**
 * What a send and its dispatch cost, in one thread: 2-level beside FIFO. Run with
 * `node --conditions=@virtlab/source packages/event-channel/src/event-channel.bench.ts`.
 */
import { type EvtchnPort, domId } from '@virtlab/abi/brands';
import type { EventAbi } from './contract.ts';
import { createTestMachine } from './testing.ts';

const EVENTS = 1 << 20;
const RUNS = 9;

interface Workload {
  readonly name: string;
  readonly ports: number;
  /** Sends of each port before a dispatch. */
  readonly sends: number;
  /** Of port `index`, where the ABI has priorities. */
  priority(index: number): number;
  /** Ports lie so far apart. */
  readonly stride: number;
}

const NORMAL = 7;
const WORKLOADS: readonly Workload[] = [
  { name: '1 port, dispatch after each send', ports: 1, sends: 1, stride: 1, priority: () => NORMAL },
  { name: '1 port, 16 sends to a dispatch', ports: 1, sends: 16, stride: 1, priority: () => NORMAL },
  { name: '64 ports side by side', ports: 64, sends: 1, stride: 1, priority: () => NORMAL },
  {
    name: '64 ports, one in each word of the bitmap',
    ports: 64,
    sends: 1,
    stride: 15,
    priority: () => NORMAL,
  },
  { name: '64 ports, 16 priorities', ports: 64, sends: 1, stride: 1, priority: (index) => index & 15 },
];

/** Median and extremes of nanoseconds for an event. */
async function measure(abi: EventAbi, { ports, sends, stride, priority }: Workload): Promise<number[]> {
  const [left, right] = createTestMachine([domId(0), domId(1)]).domains;
  const { channels } = right!;
  if (abi === 'fifo') await channels.useFifo();
  const senders: EvtchnPort[] = [];
  let ran = 0;
  for (let opened = 0; senders.length < ports; opened++) {
    const port = await channels.allocUnbound(domId(0));
    if (opened % stride !== 0) continue;
    senders.push(await left!.channels.bindInterdomain(domId(1), port));
    channels.onEvent(port, () => void (ran += 1));
    if (abi === 'fifo') await channels.setPriority(port, priority(senders.length - 1));
  }
  const { channels: from } = left!;
  const times: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const start = performance.now();
    for (let event = 0; event < EVENTS; event += ports * sends) {
      for (let again = 0; again < sends; again++)
        for (let each = 0; each < ports; each++) from.send(senders[each]!);
      channels.dispatch();
    }
    if (run > 0) times.push(((performance.now() - start) * 1e6) / EVENTS);
  }
  if (ran === 0) throw new Error('No handler ran');
  return times.toSorted((a, b) => a - b);
}

const shown = (times: readonly number[]): string =>
  `${times[(RUNS - 1) / 2]!.toFixed(1)} (${times[0]!.toFixed(1)} to ${times.at(-1)!.toFixed(1)})`;

console.log('ns an event, send and its share of the dispatch: median of 9 (least to most)');
for (const workload of WORKLOADS) {
  const [bitmaps, queues] = [await measure('2l', workload), await measure('fifo', workload)];
  console.log(`${workload.name}: 2-level ${shown(bitmaps)}, FIFO ${shown(queues)}`);
}
