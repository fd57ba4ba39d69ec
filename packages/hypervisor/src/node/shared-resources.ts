import { memoryRegion } from '@virtlab/guest-memory';
import { EventFd, closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import { type DomainMemory, XEN_PAGES, XEN_PAGES_SIZE } from '../domain-memory.ts';
import type { DomainConfig } from '../hypercalls.ts';
import type { DomainResources } from '../hypervisor.ts';

/** Resources that domain processes can share: sealed memfds and an eventfd. */
export interface SharedResources extends DomainResources {
  readonly ramFd: number;
  readonly xenFd: number;
  readonly doorbellFd: number;
}

export function createSharedResources(config: DomainConfig): SharedResources {
  const ramFd = memfdCreate(`virtlab-ram-${config.name}`, config.ramSize);
  const xenFd = memfdCreate(`virtlab-xen-${config.name}`, XEN_PAGES_SIZE);
  const doorbell = EventFd.create();
  const ram = mapShared(ramFd, config.ramSize);
  const xen = mapShared(xenFd, XEN_PAGES_SIZE);
  const memory = { ram: memoryRegion(ram.buffer), xen: memoryRegion(xen.buffer) };
  let disposed = false;
  return {
    memory,
    ramFd,
    xenFd,
    doorbellFd: doorbell.fd,
    ring: () => void (!disposed && ringDoorbell(memory, doorbell)),
    dispose: () => {
      if (disposed) return;
      disposed = true;
      ram.revoke();
      xen.revoke();
      closeFd(ramFd);
      closeFd(xenFd);
      doorbell.close();
    },
  };
}

/**
 * Wakes a domain if it sleeps. The work it is woken for was stored before, atomically; the domain stores `notify_me` before
 * it looks for work a last time. So either this load sees `notify_me`, or that look sees the work.
 */
export function ringDoorbell(memory: DomainMemory, doorbell: EventFd): void {
  if (Atomics.load(memory.xen.i32, XEN_PAGES.doorbell / 4) !== 0) doorbell.write();
}
