import type { DomId } from '@virtlab/abi/brands';
import type { EventAbi } from '@virtlab/event-channel';
import { describeEventChannels } from '@virtlab/event-channel/conformance';
import { EventFd, UnixStream, dupFd, linuxFfi, openFdCount, socketPair } from '@virtlab/linux';
import { describe, expect } from 'vitest';
import type { HypervisorConnection } from '../connection.ts';
import { XEN_PAGES } from '../domain-memory.ts';
import { Hypervisor } from '../hypervisor.ts';
import { startEventDomains } from '../testing/event-domains.ts';
import { connectHypervisor } from './connect.ts';
import { DomainSession } from './domain-session.ts';
import { type SharedResources, createSharedResources } from './shared-resources.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

/**
 * The machine of domain processes with everything but the processes: sessions over sockets, memfds mapped once for
 * each domain that maps them, eventfds. So the suite can look into the domains.
 */
async function createMachine(abi: EventAbi) {
  const fds = openFdCount();
  const sessions = new Map<DomId, DomainSession>();
  const connections = new Map<DomId, Promise<HypervisorConnection>>();
  const bells = new Map<DomId, EventFd>();
  const wokenSelf = new Set<DomId>();
  const hypervisor: Hypervisor = new Hypervisor({
    createResources: createSharedResources,
    stopsLater: true,
    launch: (domain, program, startInfo) => {
      const [fd, theirs] = socketPair();
      const session = new DomainSession(UnixStream.fromFd(fd, { fdsMax: 0 }), {
        hypervisor,
        domain,
        start: { program, startInfo },
        resourcesOf: (each) => hypervisor.resourcesOf(each) as SharedResources | undefined,
        onEnd: (reason, detail) => hypervisor.destroyDomain(domain, reason, detail),
      });
      sessions.set(domain, session);
      connections.set(domain, connectHypervisor(theirs));
    },
    onDomainEnd: (domain) => {
      sessions.get(domain)?.close();
      sessions.delete(domain);
      bells.get(domain)?.close();
      bells.delete(domain);
      hypervisor.domainStopped(domain);
    },
  });
  const domains = await startEventDomains(
    hypervisor,
    async (domain) => {
      const connection = await connections.get(domain)!;
      const { doorbellFd, memory } = hypervisor.resourcesOf(domain) as SharedResources;
      bells.set(domain, EventFd.fromFd(dupFd(doorbellFd)));
      // It sleeps, so whoever has something for it must ring.
      Atomics.store(memory.xen.i32, XEN_PAGES.doorbell / 4, 1);
      return connection;
    },
    (domain) => wokenSelf.add(domain),
    abi === '2l' ? 3100 : 1100,
  );
  const [privileged, left, right] = domains;
  const paused = hypervisor.createDomain({ name: 'paused', type: 'pv', ramSize: 1 << 16 });
  hypervisor.hypercall(privileged!.channels.domain, 'alloc_unbound', [paused, 0]);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const run = async (): Promise<void> => {
    for (let isBusy = true; isBusy;) {
      await turn();
      isBusy = false;
      for (const { channels } of domains) {
        const isRung = bells.get(channels.domain)?.read() === true;
        if (!wokenSelf.delete(channels.domain) && !isRung) continue;
        isBusy = true;
        channels.dispatch();
      }
    }
  };
  return {
    privileged: privileged!,
    left: left!,
    right: right!,
    paused,
    run,
    destroyRight: async () => {
      hypervisor.destroyDomain(right!.channels.domain, 'crash', 'killed');
      for (let turns = 0; turns < 20; turns++) await turn();
    },
    dispose: async () => {
      for (const { domain } of hypervisor.domains().toReversed())
        hypervisor.destroyDomain(domain, 'poweroff', 'over');
      expect(hypervisor.leaks()).toEqual([]);
      for (let turns = 0; turns < 50 && openFdCount() > fds; turns++) await turn();
    },
  };
}

describe.skipIf(!ffi.available)('over sockets and shared memory', () => {
  for (const abi of ['2l', 'fifo'] as const) {
    describeEventChannels({
      name: `domains behind sockets, ${abi}`,
      capabilities: { destroy: true, virq: false, paused: true, abi, vcpuCount: 2 },
      create: () => createMachine(abi),
    });
  }
});
