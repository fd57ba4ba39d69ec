// A domain process that maps and copies grants as it is told, one order a line, over two FIFOs that are read and written
// synchronously: the contract that is tested is synchronous.
import { openSync, readSync, writeSync } from 'node:fs';
import { type DomId, type GrantHandle, type GrantRef, domId } from '@virtlab/abi/brands';
import { GrantCopyList, type GrantTableView, createGrantMapper } from '@virtlab/grant-table';
import { grantTableOf } from '../../grant-tables.ts';
import { connectHypervisor } from '../connect.ts';
import type { MapperArgs, MapperOrder } from './grant-orders.ts';

const connection = await connectHypervisor();
connection.onClose(() => process.exit(0));
const { orders, answers, mapCountMax } = connection.program.args as MapperArgs;
const tables = new Map<DomId, GrantTableView>([[connection.domain, grantTableOf(connection.memory)]]);
const gone: (() => void)[] = [];
connection.onDomainGone((domain) => {
  tables.delete(domain);
  for (const resolve of gone.splice(0)) resolve();
});
const mapper = createGrantMapper({
  domain: connection.domain,
  mapCountMax,
  peers: { table: (domain) => tables.get(domain) },
});

async function obey(order: MapperOrder): Promise<unknown> {
  switch (order.order) {
    case 'connect': {
      const { memory } = await connection.mapDomain(domId(order.domain), 'memory');
      tables.set(domId(order.domain), grantTableOf({ xen: memory.xen, ram: memory.ram! }));
      return null;
    }
    case 'map': {
      const result = mapper.map(domId(order.domain), order.ref as GrantRef, order.writable);
      return [result, mapper.frame];
    }
    case 'unmap':
      return mapper.unmap((order.handle ?? Number.NaN) as GrantHandle);
    case 'has':
      return mapper.ram(domId(order.domain)) !== undefined;
    case 'live':
      return mapper.live();
    case 'gone':
      if (tables.has(domId(order.domain))) await new Promise<void>((resolve) => gone.push(resolve));
      return null;
    case 'copy': {
      const list = new GrantCopyList(Math.max(order.copies.length, 1));
      for (const copy of order.copies) list.push(...(copy as Parameters<GrantCopyList['push']>));
      const failedCount = mapper.copy(list);
      return [failedCount, [...list.status.subarray(0, list.count)]];
    }
  }
}

const input = openSync(orders, 'r');
const output = openSync(answers, 'w');
const bytes = Buffer.alloc(1 << 20);
let text = '';
await connection.call('console_write', 'up');
for (;;) {
  while (!text.includes('\n')) {
    const count = readSync(input, bytes);
    if (count === 0) process.exit(0);
    text += bytes.toString('utf8', 0, count);
  }
  const end = text.indexOf('\n');
  const order = JSON.parse(text.slice(0, end)) as MapperOrder;
  text = text.slice(end + 1);
  writeSync(output, `${JSON.stringify(await obey(order))}\n`);
}
