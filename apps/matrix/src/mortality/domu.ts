// The domUs of the mortality tests.
import type { Domain } from '@virtlab/domain';
import { runBystander } from './bystander.ts';
import { runCheat } from './cheat.ts';
import { runFuzzer } from './fuzzer.ts';
import type { GuestArguments, Role } from './messages.ts';
import { runMourner } from './mourner.ts';
import { runSurvivor } from './survivor.ts';
import { runWriter } from './writer.ts';

/** Resolves when the domain does what it is there for. */
export type RunRole = (domain: Domain, args: GuestArguments) => Promise<void>;

const ROLES: { readonly [Name in Role]: RunRole } = {
  bystander: runBystander,
  writer: runWriter,
  survivor: runSurvivor,
  mourner: runMourner,
  cheat: runCheat,
  fuzzer: runFuzzer,
};

export async function boot(domain: Domain, args: unknown): Promise<void> {
  domain.console({ kind: 'booting' });
  const { role } = args as GuestArguments;
  await ROLES[role](domain, args as GuestArguments);
  domain.console({ kind: 'up' });
}
