import { createAioContext } from '@virtlab/aio';
import { createLocalMachine } from '@virtlab/hypervisor';
import { describe, expect, it } from 'vitest';
import type { Domain } from './domain.ts';
import { runProgram } from './program.ts';
import { createLocalSystem } from './testing/local-system.ts';

describe('domains that use the FIFO ABI of event channels', () => {
  it('a program that asks for it boots with it', async () => {
    const booted = Promise.withResolvers<Domain>();
    const machine = createLocalMachine({
      launch: async (connection) => {
        const aio = createAioContext();
        booted.resolve(await runProgram(connection, aio));
      },
    });
    const { hypervisor } = machine;
    const domain = hypervisor.createDomain({ name: 'fifo', type: 'pv', ramSize: 1 << 20, vcpuCount: 2 });
    const module = 'data:text/javascript,export function boot() {}';
    const startInfo = { xenstoreFrame: 0, xenstorePort: 0 as const };
    hypervisor.unpauseDomain(domain, { module, args: null, events: 'fifo' }, startInfo);
    const { events } = await booted.promise;
    expect(events.abi).toBe('fifo');
    const port = await events.bindIpi(1);
    await events.setPriority(port, 0);
    let heard = 0;
    events.onEvent(port, () => void (heard += 1));
    events.send(port);
    expect([events.dispatch(0), events.dispatch(1), heard]).toEqual([0, 1, 1]);
    hypervisor.destroyDomain(domain, 'poweroff', 'over');
  });

  it('xenstore works over it, before and after the switch, on either side', async () => {
    const system = await createLocalSystem();
    const { domain, store } = await system.addGuest('guest', 'pv');
    await store.write('data/before', '2-level');
    await domain.events.useFifo();
    await store.write('data/guest', 'fifo');
    await system.dom0.events.useFifo();
    await store.write('data/both', 'fifo');
    const second = await system.addGuest('second', 'pv');
    await second.store.write('data/other', '2-level');
    const { store: dom0Store } = system.services.xenstored;
    const read = (id: number, name: string): Promise<string> =>
      dom0Store.readText(`/local/domain/${id}/data/${name}`);
    const seen = ['before', 'guest', 'both'].map((name) => read(domain.id, name));
    expect(await Promise.all(seen)).toEqual(['2-level', 'fifo', 'fifo']);
    expect(await read(second.domain.id, 'other')).toBe('2-level');
    expect(await system.close()).toEqual([]);
  });
});
