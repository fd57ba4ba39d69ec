import type { RingDoorbells } from './doorbells.ts';
import type { InflightRecord } from './inflight-area.ts';
import type { VringAddresses } from './payload-memory.ts';

/**
 * What the other side said about one ring ("Ring states"): started and enabled are two states, and the ring is processed
 * in both at once.
 */
export interface Vring {
  readonly index: number;
  readonly doorbells: RingDoorbells;
  /** Entries; 0 before SET_VRING_NUM. */
  size: number;
  addresses: VringAddresses | undefined;
  /** As SET_VRING_BASE has it, and where the ring stood when it was stopped. */
  base: number;
  isStarted: boolean;
  isEnabled: boolean;
  /** The device has the queue. */
  isRunning: boolean;
  /** Of the running queue, where the other side gave memory for it. */
  record: InflightRecord | undefined;
}
