import { EventEmitter } from 'node:events';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { compare } from '../compare.ts';
import { type BenchPlan, type Contender, type RunResult, timeNs } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { type EventPair, createEventPair } from './event-pair.ts';

export const EVENTS_TEXT: GroupText = {
  title: 'Event channels in one thread',
  method: [
    'A domain sends an event and the other dispatches it, with nothing in between: what the protocol itself costs. **2-level**: bitmaps in shared_info; **FIFO**: linked queues by priority. **One at a time**: a send, a dispatch of that one. **64 ports**: a send on each of 64 ports, then one dispatch of all.',
    '**Peers** deliver as many: `EventEmitter.emit`, which is a call and no channel, for scale; and a `MessageChannel` whose port is emptied by `receiveMessageOnPort`. Neither can cross to another process as it is. Each counts what was delivered.',
  ],
  findings: [
    'A 2-level send is three atomics (pending bit, selector, upcall) and a dispatch as many, with two scans of bitmaps. A FIFO send takes the lock of the queue, links the event behind the last one and looks again; that is some atomics more, and buys the order of arrival, priorities and 131,072 ports. With many ports at once both are cheaper for an event, since the upcall and the scan are shared.',
  ],
};

const PORT_COUNT = 64;

export async function runEvents(plan: BenchPlan): Promise<ComparisonReport[]> {
  const twoLevel = await createEventPair('2l', PORT_COUNT);
  const fifo = await createEventPair('fifo', PORT_COUNT);
  const { port1, port2 } = new MessageChannel();
  try {
    const contenders = (portCount: number): Contender[] => [
      ours('virtlab, 2-level', twoLevel, portCount),
      ours('virtlab, FIFO', fifo, portCount),
      emitter(portCount),
      messages(port1, port2, portCount),
    ];
    const compareWith = (title: string, portCount: number): Promise<ComparisonReport> =>
      compare({ title, operation: 'event', contenders: contenders(portCount), runShare: 0.5 }, plan);
    return [await compareWith('One at a time', 1), await compareWith(`${PORT_COUNT} ports`, PORT_COUNT)];
  } finally {
    port1.close();
  }
}

function ours(name: string, pair: EventPair, portCount: number): Contender {
  return {
    name,
    isPeer: false,
    run: (count) => {
      const before = pair.wakeUps();
      const result = inRounds(count, portCount, () => pair.round(portCount));
      return {
        ...result,
        doorbells: { kicks: result.operationCount, calls: 0, wakeUps: pair.wakeUps() - before },
      };
    },
  };
}

function emitter(portCount: number): Contender {
  const events = new EventEmitter();
  let delivered = 0;
  const names = Array.from({ length: portCount }, (_, port) => `port ${port}`);
  for (const name of names) events.on(name, () => (delivered += 1));
  return {
    name: 'EventEmitter',
    isPeer: true,
    run: (count) =>
      inRounds(count, portCount, () => {
        delivered = 0;
        for (const name of names) events.emit(name);
        return delivered;
      }),
  };
}

function messages(from: MessagePortLike, to: MessagePortLike, portCount: number): Contender {
  return {
    name: 'MessageChannel',
    isPeer: true,
    run: (count) =>
      inRounds(count, portCount, () => {
        for (let port = 0; port < portCount; port += 1) from.postMessage(port);
        let delivered = 0;
        while (receiveMessageOnPort(to) !== undefined) delivered += 1;
        return delivered;
      }),
  };
}

type MessagePortLike = MessageChannel['port1'];

/** At least `count` events, `perRound` at a time. Throws if one is lost. */
function inRounds(count: number, perRound: number, round: () => number): RunResult {
  let moved = 0;
  const elapsedNs = timeNs(() => {
    while (moved < count) {
      const delivered = round();
      if (delivered !== perRound) throw new Error(`${perRound} events were sent, ${delivered} came`);
      moved += delivered;
    }
  });
  return { operationCount: moved, elapsedNs };
}
