// Domain 0 of the disk benchmark: a disk for every guest.
import type { Domain } from '@virtlab/domain';
import { bootDom0 } from '../lab/dom0-program.ts';
import { type DiskPlan, createDisk } from './disk-backend.ts';

export async function boot(domain: Domain): Promise<void> {
  await bootDom0(domain, (device) => createDisk(device as DiskPlan));
}
