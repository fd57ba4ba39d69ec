// Domain 0 of the disk benchmark: a disk of the same kind for every guest.
import type { Domain } from '@virtlab/domain';
import { bootDom0 } from '../lab/dom0-program.ts';
import { type DiskPlan, createDisk } from './disk-backend.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  await bootDom0(domain, () => createDisk(args as DiskPlan));
}
