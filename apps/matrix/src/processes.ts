import type { DomId } from '@virtlab/abi/brands';
import { type DeviceBus } from '@virtlab/domain';
import { createDomainMachine } from '@virtlab/domain/node';
import type { DeviceName } from './exercises.ts';

/** What the programs of the grid are asked. */
export type GridRequest =
  | { readonly op: 'cell'; readonly bus: DeviceBus; readonly device: DeviceName }
  | { readonly op: 'exercise' }
  | { readonly op: 'shutdown' };

export interface GuestArguments {
  readonly bus: DeviceBus;
  readonly device: DeviceName;
}

/** Domain 0 and one domU after another, each a process. */
export interface GridMachine {
  /** Runs the exercise of a device in a fresh domU; answers what was left behind. Rejects with what went wrong. */
  cell(bus: DeviceBus, device: DeviceName): Promise<readonly string[]>;
  /** Ends domain 0; answers what was left. */
  close(): Promise<readonly string[]>;
}

const RAM_SIZE = 64 << 20;

export async function startGridMachine(): Promise<GridMachine> {
  const up = new Map<DomId, PromiseWithResolvers<void>>();
  const ended = new Map<DomId, PromiseWithResolvers<void>>();
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {}); // every wait sees it
  const expected = new Set<DomId>();
  const of = (map: Map<DomId, PromiseWithResolvers<void>>, domain: DomId): PromiseWithResolvers<void> => {
    const found = map.get(domain) ?? Promise.withResolvers<void>();
    map.set(domain, found);
    return found;
  };
  const machine = createDomainMachine({
    onConsole: (domain, record) => {
      if (record === 'up') of(up, domain).resolve();
      else failure.reject(new Error(`Domain ${domain}: ${JSON.stringify(record)}`));
    },
    onDomainEnd: (domain, _reason, detail) => {
      of(ended, domain).resolve();
      if (!expected.has(domain)) failure.reject(new Error(`Domain ${domain} ended: ${detail}`));
    },
  });
  const ask = async (domain: DomId, request: GridRequest): Promise<unknown> =>
    await Promise.race([machine.request(domain, request), failure.promise]);

  const dom0 = machine.hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: RAM_SIZE });
  const module = programUrl('grid-dom0');
  machine.hypervisor.unpauseDomain(dom0, { module, args: null }, { xenstoreFrame: 0, xenstorePort: 0 });
  await Promise.race([of(up, dom0).promise, failure.promise]);

  return {
    cell: async (bus, device) => {
      const guest = (await ask(dom0, { op: 'cell', bus, device })) as DomId;
      await Promise.race([of(up, guest).promise, failure.promise]);
      const inGuest = (await ask(guest, { op: 'exercise' })) as readonly string[];
      expected.add(guest);
      const inDom0 = (await ask(dom0, { op: 'shutdown' })) as readonly string[];
      await of(ended, guest).promise;
      return [...inGuest, ...inDom0];
    },
    close: async () => {
      expected.add(dom0);
      await machine.close();
      return machine.hypervisor.leaks();
    },
  };
}

export function programUrl(name: string): string {
  return new URL(`./${name}.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url).href;
}
