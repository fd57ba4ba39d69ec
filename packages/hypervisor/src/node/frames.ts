import type { DomId } from '@virtlab/abi/brands';
import type { DomainProgram, StartInfo } from '../hypercalls.ts';

/**
 * Messages between the hypervisor and a domain process, as MessagePack arrays; the first element says which.
 *
 * Domain to hypervisor: `[CALL, id, op, ...arguments]`, `[ANSWER, id, error | null, value]`.
 * Hypervisor to domain: `[START, startRecord]` first of all, with RAM, Xen pages and doorbell as descriptors;
 * `[RESULT, id, code | null, value or message]`, with descriptors for `map_domain`: Xen pages, doorbell and, for
 * `memory`, RAM; `[GONE, domain]`; `[REQUEST, id, message]`.
 */
export const FRAME_CALL = 0;
export const FRAME_RESULT = 1;
export const FRAME_START = 2;
export const FRAME_GONE = 3;
export const FRAME_REQUEST = 4;
export const FRAME_ANSWER = 5;

/** What a domain process is told first. */
export interface StartRecord {
  readonly domain: DomId;
  readonly ramSize: number;
  readonly program: DomainProgram;
  readonly startInfo: StartInfo;
}

/** The descriptor on which a domain process finds its hypervisor. */
export const HYPERVISOR_FD = 3;
