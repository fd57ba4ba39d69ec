import type { DomId } from '@virtlab/abi/brands';
import { type ProcessMachine, createProcessMachine } from '@virtlab/hypervisor/node';
import { moduleUrl } from '../child.ts';
import type { DomainArguments } from './domain-process.ts';

/** What a program says on its console once it takes requests. */
export const CONSOLE_UP = 'up';

/** A machine of domain processes whose programs are modules of this app. */
export interface BenchMachine extends AsyncDisposable {
  readonly machine: ProcessMachine;
  /** Creates a domain and starts a program in it; resolves once it is up. */
  startDomain(path: string, args: DomainArguments): Promise<DomId>;
  /** Resolves once the program of a domain that somebody else created is up. */
  untilUp(domain: DomId): Promise<void>;
  /** Rejects with what went wrong in any domain. */
  request(domain: DomId, message: object): Promise<unknown>;
  /** The processes of domains. */
  pidsOf(domains: readonly DomId[]): number[];
}

const RAM_SIZE = 64 << 20;

export function startMachine(): BenchMachine {
  const up = new Map<DomId, PromiseWithResolvers<void>>();
  const upOf = (domain: DomId): PromiseWithResolvers<void> => {
    const found = up.get(domain) ?? Promise.withResolvers<void>();
    up.set(domain, found);
    return found;
  };
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {}); // every wait sees it
  let isClosing = false;
  const machine = createProcessMachine({
    entry: moduleUrl('lab/domain-process'),
    onConsole: (domain, record) => {
      if (record === CONSOLE_UP) upOf(domain).resolve();
      else failure.reject(new Error(`Domain ${domain}: ${JSON.stringify(record)}`));
    },
    onDomainEnd: (domain, _reason, detail) => {
      if (!isClosing) failure.reject(new Error(`Domain ${domain} ended: ${detail}`));
    },
  });
  const untilUp = (domain: DomId): Promise<void> => Promise.race([upOf(domain).promise, failure.promise]);
  return {
    machine,
    untilUp,
    startDomain: async (path, args) => {
      const domain = machine.hypervisor.createDomain({ name: path, type: 'pv', ramSize: RAM_SIZE });
      const program = { module: moduleUrl(path).href, args };
      machine.hypervisor.unpauseDomain(domain, program, { xenstoreFrame: 0, xenstorePort: 0 });
      await untilUp(domain);
      return domain;
    },
    pidsOf: (domains) =>
      machine.hypervisor
        .domains()
        .flatMap(({ domain, pid }) => (domains.includes(domain) && pid !== undefined ? [pid] : [])),
    request: (domain, message) => Promise.race([machine.request(domain, message), failure.promise]),
    [Symbol.asyncDispose]: async () => {
      isClosing = true;
      await machine.close();
    },
  };
}
