import type { DomId } from '@virtlab/abi/brands';
import type { DeviceBus } from '@virtlab/domain';
import { moduleUrl } from '../child.ts';
import type { BenchPlan, Contender, RunResult } from '../contender.ts';
import type { Dom0Request } from './lab-messages.ts';
import { startMachine } from './machine.ts';

/** A machine with a domain 0 that serves a device to each of its guests. */
export interface Lab extends AsyncDisposable {
  /**
   * Has a guest do its work; `request` is what its program takes, and gets the number of operations. With none the guest only
   * makes ready for it.
   */
  contender(name: string, guest: string, request: (count: number) => object): Contender;
}

export interface LabGuest {
  readonly bus: DeviceBus;
  /** For the program of domain 0. */
  readonly device?: object;
}

export interface LabPlan {
  /** Modules of this app. */
  readonly dom0: string;
  readonly guest: string;
  /** By name. */
  readonly guests: Readonly<Record<string, LabGuest>>;
}

/** The ways to connect a device between domains: the name of a guest, and of its row. PCI is that of an HVM guest. */
export const BUSES: readonly (readonly [bus: DeviceBus, words: string])[] = [
  ['pci', 'pci (HVM)'],
  ['xenbus', 'xenbus (PV)'],
  ['xenbus-register-page', 'xenbus register page (PV)'],
];

/** Where features are compared: one HVM, one PV domain. */
export function featureBuses({ isBrief = false }: Pick<BenchPlan, 'isBrief'>): typeof BUSES {
  return BUSES.slice(isBrief ? 1 : 0, 2);
}

/** A guest on each bus, with a device of the same kind. */
export function guestOnEachBus(device: object, buses: typeof BUSES = BUSES): LabPlan['guests'] {
  return Object.fromEntries(buses.map(([bus]) => [bus, { bus, device }]));
}

export async function startLab({ dom0, guest, guests }: LabPlan): Promise<Lab> {
  const machine = startMachine();
  try {
    const domain0 = await machine.startDomain(dom0, {});
    const module = moduleUrl(guest).href;
    const start = async ([name, { bus, device = {} }]: [string, LabGuest]): Promise<[string, DomId]> => {
      const request: Dom0Request = { name, bus, module, device };
      const domain = (await machine.request(domain0, request)) as DomId;
      await machine.untilUp(domain);
      return [name, domain];
    };
    const domains = new Map(await Promise.all(Object.entries(guests).map(start)));
    return {
      contender: (name, key, request) => {
        const domain = domains.get(key)!;
        return {
          name,
          isPeer: false,
          pids: machine.pidsOf([domain0, domain]),
          prepare: async () => void (await machine.request(domain, request(0))),
          run: async (count) => (await machine.request(domain, request(count))) as RunResult,
        };
      },
      [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
    };
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}
