// A domain process that sends and hears events as it is told: for tests that kill it.
import { type DomId, type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import { createPrng } from '@virtlab/aio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { type EventTarget, createEventChannels } from '@virtlab/event-channel';
import { XEN_PAGES, eventTargetOf } from '../../domain-memory.ts';
import { eventHypercalls } from '../../event-hypercalls.ts';
import { connectHypervisor } from '../connect.ts';
import type { EventOrder } from './event-orders.ts';

const connection = await connectHypervisor();
const aio = createNodeAioContext();
const { xen } = connection.memory;
const targets = new Map<DomId, EventTarget>();
const heard = new Map<number, number>();

const upcall = aio.createBottomHalf(() => void channels.dispatch());
const channels = createEventChannels({
  domain: connection.domain,
  own: eventTargetOf(xen, () => upcall.schedule()),
  portTable: { region: xen, offset: XEN_PAGES.portTable, portCount: XEN_PAGES.portCount },
  hypercalls: eventHypercalls(connection),
  peers: { target: (peer) => targets.get(peer), connect },
});

async function connect(peer: DomId): Promise<EventTarget> {
  const foreign = await connection.mapDomain(peer, 'events');
  const target = eventTargetOf(foreign.memory.xen, () => foreign.ring());
  targets.set(peer, target);
  return target;
}

function storm(ports: readonly EvtchnPort[], seed: number): never {
  const prng = createPrng(seed);
  for (;;) channels.send(ports[prng.below(ports.length)]!);
}

connection.onClose(() => process.exit(0));
connection.attachDoorbell(aio, () => channels.hasPending() && channels.dispatch() > 0);
connection.onRequest(async (message) => {
  const order = message as EventOrder;
  switch (order.order) {
    case 'use':
      if (order.abi === 'fifo') await channels.useFifo();
      return channels.abi;
    case 'open': {
      const port = await channels.allocUnbound(order.remote as DomId);
      channels.onEvent(port, () => heard.set(port, (heard.get(port) ?? 0) + 1));
      return port;
    }
    case 'bind': {
      await connect(order.remote as DomId);
      return await channels.bindInterdomain(order.remote as DomId, evtchnPort(order.port));
    }
    case 'send':
      return channels.send(evtchnPort(order.port));
    case 'storm':
      setImmediate(() => storm(order.ports.map(evtchnPort), order.seed));
      return null;
    case 'heard':
      return heard.get(order.port) ?? 0;
  }
});
await connection.call('console_write', 'up');
