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

/** All or nothing. Throws `LinuxError` when there is no memory or descriptor for it. */
export function createSharedResources(config: DomainConfig): SharedResources {
  using held = new DisposableStack();
  const memfd = (name: string, size: number): number => held.adopt(memfdCreate(name, size), closeFd);
  const ramFd = memfd(`virtlab-ram-${config.name}`, config.ramSize);
  const xenFd = memfd(`virtlab-xen-${config.name}`, XEN_PAGES_SIZE);
  const doorbell = held.use(EventFd.create());
  const ram = held.use(mapShared(ramFd, config.ramSize));
  const xen = held.use(mapShared(xenFd, XEN_PAGES_SIZE));
  const memory = { ram: memoryRegion(ram.buffer), xen: memoryRegion(xen.buffer) };
  const owned = held.move();
  return {
    memory,
    ramFd,
    xenFd,
    doorbellFd: doorbell.fd,
    ring: () => void (!owned.disposed && ringDoorbell(memory, doorbell)),
    dispose: () => owned.dispose(),
  };
}

/**
 * Wakes a domain if it sleeps. The work it is woken for was stored before, atomically; the domain stores `notify_me` before
 * it looks for work a last time. So either this load sees `notify_me`, or that look sees the work.
 */
export function ringDoorbell(memory: DomainMemory, doorbell: EventFd): void {
  if (Atomics.load(memory.xen.i32, XEN_PAGES.doorbell / 4) !== 0) doorbell.write();
}
