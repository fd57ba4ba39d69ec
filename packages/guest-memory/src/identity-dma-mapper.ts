import type { CoherentBuffer, DmaDirection, DmaMapper } from './dma.ts';
import type { MemoryRegion } from './memory-region.ts';
import { PAGE_SIZE, PageAllocator } from './page-allocator.ts';

const WORD = 2 ** 32;

export interface IdentityDmaMapperOptions {
  /** Guest-physical address of the memory's first byte; page aligned. Default 0. */
  readonly baseAddress?: bigint;
  /** Where buffers come from. Default: the whole memory. Give one to share the memory with other users. */
  readonly pages?: PageAllocator;
}

/**
 * Device addresses are guest-physical addresses: a bus without address translation (PCI as virtlab models
 * it). All memory is always reachable by the device, so nothing is ever exhausted or held.
 */
export class IdentityDmaMapper implements DmaMapper {
  readonly memory: MemoryRegion;
  addressLow = 0;
  addressHigh = 0;
  readonly #pages: PageAllocator;
  readonly #memorySize: number;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  #lentCount = 0;
  #coherentCount = 0;

  /** Throws `RangeError` when the base is misaligned or an address would have bit 63, the mark of a grant. */
  constructor(memory: MemoryRegion, options: IdentityDmaMapperOptions = {}) {
    const base = options.baseAddress ?? 0n;
    if (base < 0n || base % BigInt(PAGE_SIZE) !== 0n || base + BigInt(memory.size) > 1n << 63n) {
      throw new RangeError(`Base address ${base} is not page aligned, or the memory reaches bit 63`);
    }
    this.memory = memory;
    this.#memorySize = memory.size;
    this.#pages = options.pages ?? new PageAllocator(0, memory.size);
    this.#baseLow = Number(BigInt.asUintN(32, base));
    this.#baseHigh = Number(base >> 32n);
  }

  /** Shares that are not ended. */
  get lentCount(): number {
    return this.#lentCount;
  }

  /** Coherent buffers that are not freed. */
  get coherentCount(): number {
    return this.#coherentCount;
  }

  /** Pages taken from the allocator, by anybody. */
  get usedPages(): number {
    return this.#pages.usedPages;
  }

  allocateCoherent(size: number): CoherentBuffer {
    const offset = this.#pages.allocate(size);
    this.memory.u8.fill(0, offset, offset + Math.ceil(size / this.#pages.pageSize) * this.#pages.pageSize);
    this.#coherentCount++;
    const low = this.#baseLow + offset;
    const addressHigh = low >= WORD ? this.#baseHigh + 1 : this.#baseHigh;
    return { offset, size, addressLow: low >>> 0, addressHigh };
  }

  freeCoherent(buffer: CoherentBuffer): boolean {
    this.#pages.free(buffer.offset, buffer.size);
    this.#coherentCount--;
    return true;
  }

  allocate(size: number): number {
    return this.#pages.allocate(size);
  }

  free(offset: number, size: number): void {
    this.#pages.free(offset, size);
  }

  share(offset: number, size: number, _direction: DmaDirection): boolean {
    if (!(offset >= 0 && size >= 0 && offset + size <= this.#memorySize)) {
      refuseRange(offset, size, this.#memorySize);
    }
    const low = this.#baseLow + offset;
    this.addressLow = low >>> 0;
    this.addressHigh = low >= WORD ? this.#baseHigh + 1 : this.#baseHigh;
    this.#lentCount++;
    return true;
  }

  unshare(addressLow: number, addressHigh: number, size: number, _direction: DmaDirection): boolean {
    const offset = (addressHigh - this.#baseHigh) * WORD + (addressLow - this.#baseLow);
    if (this.#lentCount === 0 || !(offset >= 0 && offset + size <= this.#memorySize)) {
      refuseAddress(addressLow, addressHigh);
    }
    this.#lentCount--;
    return true;
  }
}

// Apart, because a function with a text in it is too long for the engine to inline.
function refuseRange(offset: number, size: number, memorySize: number): never {
  throw new RangeError(`Range ${offset}+${size} is not inside the memory of ${memorySize} bytes`);
}

function refuseAddress(addressLow: number, addressHigh: number): never {
  throw new RangeError(`Address ${addressHigh}:${addressLow} is not shared`);
}
