/** Memory that the caller of a link brings: mapped here, shown to the device beside the link's own, and taken away again. */
import { type MemoryRegion, PAGE_SIZE, memoryRegion } from '@virtlab/guest-memory';
import {
  LinuxError,
  SHARED_MAPPING_SIZE_MAX,
  type SharedMapping,
  closeFd,
  dupFd,
  mapShared,
} from '@virtlab/linux';
import { type LentMemory, TransportError } from '@virtlab/virtio';
import type { FrontendChannel } from './frontend-channel.ts';
import type { RegionDescription } from './payload-memory.ts';

/**
 * Where such memory is in device addresses: one place of 8 GiB each, far from the link's own, so that no two touch and
 * none crosses 2^32.
 */
const PLACE_SIZE = 0x2_0000_0000;
const PLACES_AT = 0x10_0000_0000;
const WORD = 2 ** 32;

export class LentRegion implements Disposable {
  readonly place: number;
  readonly size: number;
  readonly memory: MemoryRegion;
  readonly fd: number;
  /** The connection over which the device was told of it. */
  toldOn: FrontendChannel | undefined;
  readonly #offset: number;
  readonly #mapping: SharedMapping;

  /** The descriptor stays the caller's. Throws `RangeError`, `TransportError` `EINVAL`. */
  constructor(place: number, fd: number, offset: number, size: number) {
    for (const [name, value] of Object.entries({ offset, size })) {
      if (Number.isSafeInteger(value) && value >= 0 && value % PAGE_SIZE === 0) continue;
      throw new RangeError(`Memory ${name} ${value} is not a multiple of the page size`);
    }
    if (size === 0 || size > SHARED_MAPPING_SIZE_MAX)
      throw new RangeError(`Memory size ${size} is not in 1..${SHARED_MAPPING_SIZE_MAX}`);
    this.place = place;
    this.size = size;
    this.#offset = offset;
    try {
      this.fd = dupFd(fd);
    } catch (error) {
      throw unusable(error);
    }
    try {
      this.#mapping = mapShared(this.fd, size, { offset });
    } catch (error) {
      closeFd(this.fd);
      throw unusable(error);
    }
    this.memory = memoryRegion(this.#mapping.buffer);
  }

  get address(): number {
    return PLACES_AT + this.place * PLACE_SIZE;
  }

  get description(): RegionDescription {
    const address = BigInt(this.address);
    return {
      guestAddress: address,
      userAddress: address,
      size: BigInt(this.size),
      mmapOffset: BigInt(this.#offset),
    };
  }

  /** What the caller gets; `onDispose` runs once. */
  handle(onDispose: () => void): LentMemory {
    let isDisposed = false;
    return {
      memory: this.memory,
      offset: 0,
      size: this.size,
      addressLow: this.address % WORD,
      addressHigh: Math.floor(this.address / WORD),
      [Symbol.dispose]: () => {
        if (isDisposed) return;
        isDisposed = true;
        onDispose();
      },
    };
  }

  /** Views that somebody still holds read zeros from now on. */
  revoke(): void {
    this.#mapping.revoke();
  }

  [Symbol.dispose](): void {
    this.revoke();
    closeFd(this.fd);
  }
}

/** `EINVAL` for a descriptor that is none, that can shrink, or is shorter than the range; with what it says of it. */
function unusable(error: unknown): unknown {
  if (!(error instanceof LinuxError)) return error;
  return new TransportError('EINVAL', `This memory cannot be lent: ${error.message}`, { cause: error });
}
