import { EVTCHN_2L_NR_CHANNELS } from '@virtlab/abi/event-channel';
import type { EventTarget } from './contract.ts';
import { ABI_2L, QUEUES_PER_VCPU_SHIFT } from './delivery-area.ts';
import { postFifo } from './fifo-post.ts';
import { setPending } from './two-level.ts';

/**
 * Posts an event to a port of a domain in the way that the domain uses now, on the vCPU that the port is bound to. `sender` is
 * a domain id, or `DOMID_XEN`. False for a port that the ABI has not. Synchronous, allocates nothing.
 */
export function postEvent(target: EventTarget, port: number, sender: number): boolean {
  const area = target.delivery;
  if (area === undefined) {
    if (port >= EVTCHN_2L_NR_CHANNELS) return false;
    setPending(target, port, 0);
    return true;
  }
  if (port >= area.portCount) return false;
  // Plain: what is chosen now may be wrong by the time it is done anyway; `FifoControl` says what follows then.
  if (target.region.i32[area.abi] !== ABI_2L) {
    postFifo(target, area, port, sender);
    return true;
  }
  if (port >= EVTCHN_2L_NR_CHANNELS) return false;
  setPending(target, port, routedVcpu(target, port));
  return true;
}

/** The vCPU that a port's events go to. */
export function routedVcpu(target: EventTarget, port: number): number {
  const area = target.delivery;
  if (area === undefined) return 0;
  const vcpu = target.region.u16[area.route + port]! >>> QUEUES_PER_VCPU_SHIFT;
  return vcpu < area.vcpuMax ? vcpu : 0;
}
