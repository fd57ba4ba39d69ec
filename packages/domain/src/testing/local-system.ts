import type { DomId } from '@virtlab/abi/brands';
import { type AioContext, createAioContext } from '@virtlab/aio';
import { type DomainType, type LocalMachine, createLocalMachine } from '@virtlab/hypervisor';
import type { Xenstore } from '@virtlab/xenstore';
import { type Domain, bootDomain } from '../domain.ts';
import { connectOwnXenstore } from '../start-of-day.ts';
import { type Dom0Options, type Dom0Services, startDom0 } from '../dom0.ts';
import type { Guest } from '../toolstack.ts';

/** A guest of a local system: its code is the test's. */
export interface LocalGuest {
  readonly guest: Guest;
  readonly domain: Domain;
  readonly store: Xenstore;
}

/** Domain 0 with xenstored and toolstack, and guests, all in this thread. */
export interface LocalSystem {
  readonly machine: LocalMachine;
  readonly dom0: Domain;
  readonly services: Dom0Services;
  /** Ends of domains, in words. */
  readonly ended: readonly string[];
  /** `prepare` runs between the making of the guest and its start: where devices are attached. */
  addGuest(name: string, type: DomainType, prepare?: (guest: Guest) => Promise<void>): Promise<LocalGuest>;
  /** Shuts the whole system down and names what is left. */
  close(): Promise<readonly string[]>;
}

const RAM_SIZE = 16 << 20;

/** `createContext` makes each domain's event loop. */
export async function createLocalSystem(
  createContext: (domain: DomId) => AioContext = () => createAioContext(),
  options: Dom0Options = {},
): Promise<LocalSystem> {
  const ended: string[] = [];
  const booted = new Map<DomId, PromiseWithResolvers<Domain>>();
  const bootOf = (domain: DomId): PromiseWithResolvers<Domain> => {
    const boot = booted.get(domain) ?? Promise.withResolvers<Domain>();
    booted.set(domain, boot);
    return boot;
  };
  const contexts = new Map<DomId, AioContext>();
  const machine = createLocalMachine({
    launch: (connection) => {
      const aio = createContext(connection.domain);
      contexts.set(connection.domain, aio);
      bootOf(connection.domain).resolve(bootDomain(connection, aio));
    },
    onDomainEnd: (domain, reason, detail) => {
      contexts.get(domain)?.[Symbol.dispose](); // its loop dies with it, as a process would
      if (reason === 'crash') contexts.delete(domain); // and with what its code, which we cannot kill, still does
      ended.push(`${domain} ${reason}: ${detail}`);
    },
  });
  const domain0 = machine.hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: RAM_SIZE });
  machine.hypervisor.unpauseDomain(
    domain0,
    { module: '', args: null },
    { xenstoreFrame: 0, xenstorePort: 0 },
  );
  const dom0 = await bootOf(domain0).promise;
  const services = await startDom0(dom0, options);
  const { toolstack } = services;
  const guests: LocalGuest[] = [];
  return {
    machine,
    dom0,
    services,
    ended,
    addGuest: async (name, type, prepare) => {
      const guest = await toolstack.createGuest({
        name,
        type,
        ramSize: RAM_SIZE,
        program: { module: '', args: null },
      });
      await prepare?.(guest);
      await guest.start();
      const domain = await bootOf(guest.domain).promise;
      const local = { guest, domain, store: connectOwnXenstore(domain) };
      guests.push(local);
      return local;
    },
    close: async () => {
      const alive = new Set(machine.hypervisor.domains().map((info) => info.domain));
      for (const { guest } of guests.filter((each) => alive.has(each.guest.domain)))
        await toolstack.destroyGuest(guest);
      await services[Symbol.asyncDispose]();
      const left = dom0.leaks();
      await dom0.shutdown('poweroff');
      const leaks = [
        ...left,
        ...machine.hypervisor.leaks(),
        ...[...contexts.values()].flatMap((aio) => aio.leaks()),
      ];
      return leaks;
    },
  };
}
