// A domain process that does what it is told: for tests of the machine around it.
import { createNodeAioContext } from '@virtlab/aio/node';
import type { DomId } from '@virtlab/abi/brands';
import { connectHypervisor } from '../connect.ts';
import type { HypercallOp } from '../../hypercalls.ts';
import { attack } from './attacks.ts';
import type { Order } from './orders.ts';

const connection = await connectHypervisor();
const aio = createNodeAioContext();
const { ram } = connection.memory;
const gone: number[] = [];
let rings = 0;

connection.onDomainGone((domain) => gone.push(domain));
connection.onClose(() => process.exit(0));
connection.attachDoorbell(aio, () => {
  if (Atomics.exchange(ram.i32, 0, 0) === 0) return false;
  rings += 1;
  return true;
});
connection.onRequest(async (message) => {
  const order = message as Order;
  switch (order.order) {
    case 'call':
      return await connection.call(order.op as HypercallOp, ...(order.args as never));
    case 'map':
      await connection.mapDomain(order.domain as DomId, order.access);
      return null;
    case 'poke': {
      const foreign = connection.foreign(order.domain as DomId, 'memory');
      if (foreign?.memory.ram === undefined) throw new TypeError(`Domain ${order.domain} is not mapped`);
      Atomics.store(foreign.memory.ram.i32, order.index, order.value);
      foreign.ring();
      return null;
    }
    case 'look':
      return { value: Atomics.load(ram.i32, order.index), rings, gone };
    case 'attack':
      return attack(order.attack, order.seed);
    case 'exit':
      process.exit(order.code);
  }
});
await connection.call('console_write', 'up');
