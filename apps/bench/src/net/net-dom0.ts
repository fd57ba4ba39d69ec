// Domain 0 of the network benchmark: a card for every guest, each on a switch with stations of its own.
import type { Domain } from '@virtlab/domain';
import { bootDom0 } from '../lab/dom0-program.ts';
import { type CardPlan, createCard } from './station.ts';

export async function boot(domain: Domain): Promise<void> {
  await bootDom0(domain, async (device) => createCard(device as CardPlan));
}
