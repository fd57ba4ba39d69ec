/**
 * The memory in which a device writes down what it has taken ("Inflight I/O tracking"), and which the other side keeps for
 * whoever hosts the device after a crash.
 */
import {
  VHOST_USER_INFLIGHT_DESC_PACKED,
  VHOST_USER_INFLIGHT_DESC_SPLIT,
  VHOST_USER_INFLIGHT_PACKED,
  VHOST_USER_INFLIGHT_SPLIT,
  VHOST_USER_INFLIGHT_VERSION,
} from '@virtlab/abi/vhost-user';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { QueuePosition, TakenChain } from '@virtlab/virtio';
import type { QueueObserver } from './observed-queue.ts';
import type { InflightArea } from './payload-memory.ts';
import type { MappedRegion } from './region-mapping.ts';

/** Regions begin at cache lines. */
const REGION_ALIGN_SIZE = 64;

/** What is kept of one queue, and how. */
export interface InflightRecord {
  /** Where the queue goes on and what has to be done again; undefined when nothing was kept. */
  recover(
    usedIdx: number,
  ): { readonly start: QueuePosition; readonly takenChains: readonly TakenChain[] } | undefined;
  /**
   * Keeps what happens from `start` on; `position` is the ring's. What `recover` found, or as much of it as `takenChains` begins
   * with, stays found after each store of this: who takes over may die too. Anything else is forgotten with one store.
   */
  begin(
    start: QueuePosition,
    takenChains: readonly TakenChain[],
    position: () => QueuePosition,
  ): QueueObserver;
  /** The queue was stopped with nothing left to be done again: the next start is told by others. */
  end(): void;
}

/** Bytes that the region of one queue takes. */
export function inflightRegionSize(queueSize: number, isPacked: boolean): number {
  const size = isPacked
    ? VHOST_USER_INFLIGHT_PACKED.size + queueSize * VHOST_USER_INFLIGHT_DESC_PACKED.size
    : VHOST_USER_INFLIGHT_SPLIT.size + queueSize * VHOST_USER_INFLIGHT_DESC_SPLIT.size;
  return Math.ceil(size / REGION_ALIGN_SIZE) * REGION_ALIGN_SIZE;
}

/** Where one queue's region lies. Offsets in bytes are multiples of 8. */
export interface InflightPlace {
  readonly memory: MemoryRegion;
  readonly offset: number;
  /** Entries, as the area was made for. */
  readonly queueSize: number;
}

export class InflightMemory {
  readonly #mapped: MappedRegion;
  readonly #area: InflightArea;

  constructor(mapped: MappedRegion, area: InflightArea) {
    this.#mapped = mapped;
    this.#area = area;
  }

  /** Undefined when the area is too small for this queue. */
  place(queue: number, ringSize: number, isPacked: boolean): InflightPlace | undefined {
    const { queueCount, queueSize } = this.#area;
    const memory = this.#mapped.pieces[0]!;
    const stride = inflightRegionSize(queueSize, isPacked);
    const offset = queue * stride;
    if (queue >= queueCount || ringSize > queueSize || offset + stride > memory.size) return undefined;
    return { memory, offset, queueSize };
  }

  revoke(): void {
    this.#mapped.revoke();
  }
}

/** Requests are counted up to here, by numbers that a double holds; a region beyond was never written by anybody. */
export const COUNTER_MAX: number = 2 ** 52;

/** Whether a region is in use. */
export function isInUse(version: number, descCount: number, queueSize: number): boolean {
  return version === VHOST_USER_INFLIGHT_VERSION && descCount === queueSize;
}
