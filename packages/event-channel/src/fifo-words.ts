import {
  EVTCHN_FIFO_BUSY,
  EVTCHN_FIFO_CONTROL_BLOCK,
  EVTCHN_FIFO_EVENT_WORDS_PER_PAGE,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_LINK_MASK,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_PENDING,
} from '@virtlab/abi/event-channel';
import type { DeliveryArea } from './delivery-area.ts';

/** Event words and control blocks of the FIFO ABI in shared memory (xen/event_channel.h). */

export const PENDING: number = 1 << EVTCHN_FIFO_PENDING;
export const MASKED: number = 1 << EVTCHN_FIFO_MASKED;
export const LINKED: number = 1 << EVTCHN_FIFO_LINKED;
export const BUSY: number = 1 << EVTCHN_FIFO_BUSY;
export const LINK: number = EVTCHN_FIFO_LINK_MASK;

/** Places in a control block, in 32-bit words. */
export const READY_INDEX: number = EVTCHN_FIFO_CONTROL_BLOCK.offset.ready / 4;
export const HEAD_INDEX: number = EVTCHN_FIFO_CONTROL_BLOCK.offset.head / 4;
const CONTROL_WORDS = EVTCHN_FIFO_CONTROL_BLOCK.size / 4;

export const PAGE_SHIFT: number = Math.log2(EVTCHN_FIFO_EVENT_WORDS_PER_PAGE);
const PAGE_MASK = EVTCHN_FIFO_EVENT_WORDS_PER_PAGE - 1;

/**
 * Where a port's event word is; -1 while its page of the array is missing, or for a port that there is not. A plain load: the
 * place changes from missing to there, and who must not miss that looks again after an atomic operation.
 */
export function eventWordIndex(words: Int32Array, area: DeliveryArea, port: number): number {
  if (port >= area.portCount) return -1;
  const page = words[area.pages + (port >>> PAGE_SHIFT)]!;
  // The page lies in the region, whatever its owner wrote there.
  if (page <= 0 || page + EVTCHN_FIFO_EVENT_WORDS_PER_PAGE > words.length) return -1;
  return page + (port & PAGE_MASK);
}

/** Where a vCPU's control block is; 0 without one. */
export function controlIndex(words: Int32Array, area: DeliveryArea, vcpu: number): number {
  if (vcpu >= area.vcpuMax) return 0;
  const control = words[area.control + vcpu]!;
  return control > 0 && control + CONTROL_WORDS <= words.length ? control : 0;
}
