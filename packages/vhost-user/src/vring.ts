import type { FeatureBits } from '@virtlab/abi/brands';
import type { QueueHandOver } from '@virtlab/virtio';
import type { RingDoorbells } from './doorbells.ts';
import type { InflightRecord } from './inflight-area.ts';
import type { VringAddresses } from './payload-memory.ts';

/**
 * What the other side said about one ring ("Ring states"): started and enabled are two states, and the ring is processed
 * in both at once. One that is started and disabled is discarded, if its device discards it.
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
  enabling: Enabling;
  /** The host has the queue, for the device or to discard what comes. */
  isRunning: boolean;
  /** Of the running queue, where the other side gave memory for it. */
  record: InflightRecord | undefined;
  /** Since a stop before which the device did not finish everything, where the base alone does not say what. */
  left: VringLeft | undefined;
}

/**
 * By the text a ring that is started and not enabled is disabled, and what is sent then is lost. Here that is one that was disabled
 * after it was started. Before, it waits: each reconnection has a moment between the kick that starts a ring and ENABLE.
 */
export type Enabling = 'waiting' | 'enabled' | 'disabled';

/** What a device left unfinished, and the ring that is meant: one that is told otherwise is another one. */
export interface VringLeft extends QueueHandOver {
  /** As GET_VRING_BASE gave it. */
  readonly base: number;
  readonly size: number;
  readonly features: FeatureBits;
}
