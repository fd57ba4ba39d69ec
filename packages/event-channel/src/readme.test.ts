import { domId } from '@virtlab/abi/brands';
import { type EventTarget, type PortTableView, createEventChannels } from '@virtlab/event-channel';
import { createPortTables, inProcessHypercalls } from '@virtlab/event-channel/hypervisor';
import { memoryRegion } from '@virtlab/guest-memory';
import { readmeExampleAndTest } from '@virtlab/readme-example';
import { expect, it } from 'vitest';

it('README: the usage example is the code of this test', async () => {
  // usage
  const pages = [0, 1].map(() => {
    const shared = memoryRegion(new SharedArrayBuffer(4096));
    const table = memoryRegion(new SharedArrayBuffer(32768));
    const target: EventTarget = { region: shared, sharedInfoOffset: 0, wake: () => {} };
    const portTable: PortTableView = { region: table, offset: 0, portCount: 4096 };
    return { target, portTable };
  });

  // The hypervisor: owns the ports of both domains. Domain 0 is privileged.
  const tables = createPortTables({
    domainExists: (domain) => domain in pages,
    targetOf: (domain) => pages[domain]?.target,
    isPrivileged: (domain) => domain === 0,
  });
  const [dom0, domU] = [0, 1].map((id) => {
    const domain = domId(id);
    const { target: own, portTable } = pages[id]!;
    tables.addDomain(domain, portTable);
    const peers = {
      target: (peer: number) => pages[peer]?.target,
      connect: () => Promise.reject(new Error('gone')),
    };
    return createEventChannels({
      domain,
      own,
      portTable,
      hypercalls: inProcessHypercalls(tables, domain),
      peers,
    });
  });

  // domU offers a port to dom0, dom0 binds to it.
  const offered = await domU!.allocUnbound(dom0!.domain);
  const bound = await dom0!.bindInterdomain(domU!.domain, offered);
  let events = 0;
  domU!.onEvent(offered, () => (events += 1));

  dom0!.send(bound);
  dom0!.send(bound);
  const ran = domU!.dispatch(); // when the doorbell rang: one handler for both sends
  // end of usage

  expect({ ran, events }).toEqual({ ran: 1, events: 1 });

  const { readme, test } = readmeExampleAndTest(new URL('../README.md', import.meta.url), import.meta.url);
  expect(readme).toBe(test);
});
