import type { DomId } from '@virtlab/abi/brands';
import { createDomainMachine } from '@virtlab/domain/node';
import type { DeviceName } from './exercises.ts';
import type { CellResult, DomainTransport, DoorbellName, GridMachine } from './grid.ts';
import { requireNothing } from './in-process.ts';

/** What the programs of the grid are asked. */
export type Dom0GridRequest =
  /** Makes and starts the domU, with all devices; answers its id. */
  | { readonly op: 'guest'; readonly guest: GuestArguments }
  /** Shuts the domU down; answers what is left of it. */
  | { readonly op: 'shutdown' };

export type DomUGridRequest =
  /** Runs one cell; answers a `CellResult`. */
  | { readonly op: 'exercise'; readonly device: DeviceName; readonly ring: string }
  /** Lets the devices go; answers what is still held. */
  | { readonly op: 'leave' };

/** The doorbells are those of the domU; domain 0 has its own. */
export interface GuestArguments {
  readonly transport: DomainTransport;
  readonly doorbells: DoorbellName;
}

/** What domain 0 is started with. */
export interface Dom0Arguments {
  readonly doorbells: DoorbellName;
}

const RAM_SIZE = 64 << 20;

/** Domain 0 and a domU with one device of each kind, both processes. */
export async function startGridMachine(
  transport: DomainTransport,
  doorbells: DoorbellName,
): Promise<GridMachine> {
  const waiting = new Waiting();
  const machine = createDomainMachine({
    onConsole: (domain, record) => waiting.said(domain, record),
    onDomainEnd: (domain, _reason, detail) => waiting.ended(domain, detail),
  });
  const ask = async (domain: DomId, request: Dom0GridRequest | DomUGridRequest): Promise<unknown> =>
    await waiting.unlessFailed(machine.request(domain, request));

  const dom0 = machine.hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: RAM_SIZE });
  const args: Dom0Arguments = { doorbells };
  const program = { module: programUrl('grid-dom0'), args };
  machine.hypervisor.unpauseDomain(dom0, program, { xenstoreFrame: 0, xenstorePort: 0 });
  await waiting.untilUp(dom0);
  const guest = (await ask(dom0, { op: 'guest', guest: { transport, doorbells } })) as DomId;
  await waiting.untilUp(guest);

  return {
    cell: async (device, ring) =>
      (await ask(guest, { op: 'exercise', device, ring: ring.name })) as CellResult,
    close: async () => {
      const inGuest = (await ask(guest, { op: 'leave' })) as readonly string[];
      waiting.expectEnd(guest);
      const inDom0 = (await ask(dom0, { op: 'shutdown' })) as readonly string[];
      await waiting.untilEnded(guest);
      waiting.expectEnd(dom0);
      await machine.close();
      requireNothing([...inGuest, ...inDom0, ...machine.hypervisor.leaks()]);
    },
    kill: async () => {
      for (const domain of [dom0, guest]) waiting.expectEnd(domain);
      await machine.close();
    },
  };
}

/** What is waited for of the domains; a domain that panics or ends unasked ends every wait. */
class Waiting {
  readonly #up = new Map<DomId, PromiseWithResolvers<void>>();
  readonly #ended = new Map<DomId, PromiseWithResolvers<void>>();
  readonly #expected = new Set<DomId>();
  readonly #failure = Promise.withResolvers<never>();

  constructor() {
    this.#failure.promise.catch(() => undefined); // every wait sees it
  }

  said(domain: DomId, record: unknown): void {
    if (record === 'up') this.#of(this.#up, domain).resolve();
    else this.#failure.reject(new Error(`Domain ${domain}: ${JSON.stringify(record)}`));
  }

  ended(domain: DomId, detail: string): void {
    this.#of(this.#ended, domain).resolve();
    if (!this.#expected.has(domain)) this.#failure.reject(new Error(`Domain ${domain} ended: ${detail}`));
  }

  expectEnd(domain: DomId): void {
    this.#expected.add(domain);
  }

  async untilUp(domain: DomId): Promise<void> {
    await this.unlessFailed(this.#of(this.#up, domain).promise);
  }

  async untilEnded(domain: DomId): Promise<void> {
    await this.#of(this.#ended, domain).promise;
  }

  async unlessFailed<T>(work: Promise<T>): Promise<T> {
    return await Promise.race([work, this.#failure.promise]);
  }

  #of(map: Map<DomId, PromiseWithResolvers<void>>, domain: DomId): PromiseWithResolvers<void> {
    const found = map.get(domain) ?? Promise.withResolvers<void>();
    map.set(domain, found);
    return found;
  }
}

export function programUrl(name: string): string {
  return new URL(`./${name}.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url).href;
}
