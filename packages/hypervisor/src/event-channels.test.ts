import type { DomId } from '@virtlab/abi/brands';
import { createSimulation } from '@virtlab/aio/simulated';
import { describeEventChannels } from '@virtlab/event-channel/conformance';
import { expect } from 'vitest';
import { createLocalMachine } from './local.ts';
import { type EventDomain, startEventDomains } from './testing/event-domains.ts';

for (const abi of ['2l', 'fifo'] as const) {
  describeEventChannels({
    name: `domains in one thread, ${abi}`,
    capabilities: { destroy: true, virq: false, paused: true, abi, vcpuCount: 2 },
    create: async () => {
      const simulation = createSimulation({ seed: 1 });
      const domains: EventDomain[] = [];
      const machine = createLocalMachine({ launch: () => {} });
      const { hypervisor } = machine;
      const wakers = new Map<DomId, () => void>();
      const registrations: Disposable[] = [];
      domains.push(
        ...(await startEventDomains(
          hypervisor,
          async (domain) => {
            await Promise.resolve();
            const connection = machine.connection(domain)!;
            const aio = simulation.createContext(`domain ${domain}`);
            const own = (): EventDomain | undefined =>
              domains.find(({ channels }) => channels.domain === domain);
            const poll = (): boolean =>
              own()?.channels.hasPending() === true && own()!.channels.dispatch() > 0;
            const again = aio.createBottomHalf(() => void poll());
            wakers.set(domain, () => again.schedule());
            registrations.push(connection.attachDoorbell(aio, poll), again);
            return connection;
          },
          (domain) => wakers.get(domain)?.(),
          abi === '2l' ? 4095 : 4300,
        )),
      );
      const [privileged, left, right] = domains;
      const paused = hypervisor.createDomain({ name: 'paused', type: 'pv', ramSize: 1 << 16 });
      hypervisor.hypercall(privileged!.channels.domain, 'alloc_unbound', [paused, 0]);
      return {
        privileged: privileged!,
        left: left!,
        right: right!,
        paused,
        run: async () => {
          await simulation.run({ untilMs: simulation.now() + 1, untilIdle: true });
        },
        destroyRight: async () => hypervisor.destroyDomain(right!.channels.domain, 'crash', 'killed'),
        dispose: async () => {
          for (const registration of registrations) registration[Symbol.dispose]();
          for (const { domain } of hypervisor.domains().toReversed())
            hypervisor.destroyDomain(domain, 'poweroff', 'over');
          expect(hypervisor.leaks()).toEqual([]);
        },
      };
    },
  });
}
