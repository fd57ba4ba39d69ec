import type { AioContext } from '@virtlab/aio';
import type { HypervisorConnection } from '@virtlab/hypervisor';
import { type Domain, bootDomain } from './domain.ts';

/** What a program module exports. It has started when `boot` resolves; it ends with `Domain.shutdown`. */
export interface DomainProgramModule {
  boot(domain: Domain, args: unknown): void | Promise<void>;
  /** Puts something between the domain and its machine before it boots; for faults that a test wants. */
  connect?(connection: HypervisorConnection, args: unknown): HypervisorConnection;
}

/** Enters the program of a domain, as a kernel is entered with its start info. Rejects with what the program threw. */
export async function runProgram(connection: HypervisorConnection, aio: AioContext): Promise<Domain> {
  const { module, args } = connection.program;
  const program = (await import(module)) as Partial<DomainProgramModule>;
  if (typeof program.boot !== 'function') throw new TypeError(`${module} does not export a function boot`);
  const { grantVersion } = connection.program;
  if (grantVersion !== undefined) await connection.call('gnttab_set_version', grantVersion);
  const domain = bootDomain(program.connect?.(connection, args) ?? connection, aio);
  if (connection.program.events === 'fifo') await domain.events.useFifo();
  await program.boot(domain, args);
  return domain;
}
