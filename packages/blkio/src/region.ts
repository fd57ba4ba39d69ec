import type { MemoryRegion } from '@virtlab/guest-memory';
import type { BlkioRegion } from './contract.ts';
import type { DiskState } from './disk-state.ts';

/** Memory at known device addresses, one after the other. */
export interface Lent {
  readonly memory: MemoryRegion;
  /** In `memory`. */
  readonly offset: number;
  readonly size: number;
  readonly addressLow: number;
  readonly addressHigh: number;
}

/**
 * Whoever made it disposes of it once; the disk decides when the memory goes back: at once, or when the device was reset
 * (`SessionBlkio`). Until then it is the device's to write, and nobody else's.
 */
export class Region implements BlkioRegion {
  readonly memory: MemoryRegion;
  readonly offset: number;
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly addressLow: number;
  readonly addressHigh: number;
  /** The disk that may use it; undefined once it was given back. One comparison tells both. */
  owner: DiskState | undefined;
  readonly #onDispose: (region: Region) => void;

  constructor(owner: DiskState, lent: Lent, onDispose: (region: Region) => void) {
    const { memory, offset, size } = lent;
    this.memory = memory;
    this.offset = offset;
    this.size = size;
    this.bytes = memory.u8.subarray(offset, offset + size);
    this.addressLow = lent.addressLow;
    this.addressHigh = lent.addressHigh;
    this.owner = owner;
    this.#onDispose = onDispose;
  }

  [Symbol.dispose](): void {
    if (this.owner === undefined) return;
    this.owner = undefined;
    this.#onDispose(this);
  }
}
