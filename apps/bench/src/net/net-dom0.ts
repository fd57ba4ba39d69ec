// Domain 0 of the network benchmark: a card for every guest, each on a switch with a station of its own.
import type { Domain } from '@virtlab/domain';
import { bootDom0 } from '../lab/dom0-program.ts';
import { createCard } from './station.ts';

export async function boot(domain: Domain): Promise<void> {
  await bootDom0(domain, async () => createCard());
}
