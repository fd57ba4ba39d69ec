import type { DomId } from '@virtlab/abi/brands';
import type { DeviceBus } from '@virtlab/domain';
import { moduleUrl } from '../child.ts';
import type { Contender, RunResult } from '../contender.ts';
import type { Dom0Request } from './lab-messages.ts';
import { startMachine } from './machine.ts';

/** A machine with a domain 0 that serves a device to each of its guests, one guest for each way to connect it. */
export interface Lab extends AsyncDisposable {
  /** Has the guest on a bus do its work; `request` is what its program takes, and gets the number of operations. */
  contender(name: string, bus: DeviceBus, request: (count: number) => object): Contender;
}

const BUSES: readonly DeviceBus[] = ['pci', 'xenbus'];

/** `dom0` and `guest` are modules of this app. */
export async function startLab(dom0: string, dom0Args: object, guest: string): Promise<Lab> {
  const machine = startMachine();
  try {
    const domain0 = await machine.startDomain(dom0, dom0Args);
    const start = async (bus: DeviceBus): Promise<readonly [DeviceBus, DomId]> => {
      const request: Dom0Request = { bus, module: moduleUrl(guest).href };
      const domain = (await machine.request(domain0, request)) as DomId;
      await machine.untilUp(domain);
      return [bus, domain];
    };
    const guests = new Map(await Promise.all(BUSES.map(start)));
    return {
      contender: (name, bus, request) => ({
        name,
        isPeer: false,
        run: async (count) => (await machine.request(guests.get(bus)!, request(count))) as RunResult,
      }),
      [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
    };
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}
