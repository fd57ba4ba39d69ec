import type { DomId, GrantRef } from '@virtlab/abi/brands';
import { XEN_PAGE_OFFSET_MASK, XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTable } from '@virtlab/grant-table';
import {
  type CoherentBuffer,
  DMA_TO_DEVICE,
  type DmaDirection,
  DmaError,
  type DmaMapper,
  type MemoryRegion,
  type PageAllocator,
} from '@virtlab/guest-memory';
import { grantAddressHigh, grantAddressLow, grantRefOf, pageCountOf } from './grant-address.ts';
import { Quarantine } from './quarantine.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const PAGE_SIZE = XEN_PAGE_SIZE;
const PAGE_SHIFT = XEN_PAGE_SHIFT;
const OFFSET_MASK = XEN_PAGE_OFFSET_MASK;
const TO_DEVICE = DMA_TO_DEVICE;

const LOW = 0;
const HIGH = 1;

export interface GrantDmaMapperOptions {
  /** The driver's own RAM, guest-physical address 0 at offset 0: a page's frame is its offset / 4096. */
  readonly memory: MemoryRegion;
  /** Where buffers come from. */
  readonly pages: PageAllocator;
  /** The own domain's table. */
  readonly grants: GrantTable;
  /** To whom everything is granted. */
  readonly backendDomain: DomId;
}

export interface GrantDmaMapper extends DmaMapper {
  /** Grants that the backend held on to when they were to end; their pages are out of use meanwhile. */
  readonly heldCount: number;
  /** Tries to end those again; answers how many are left. */
  reclaim(): number;
  /** Whether the backend has a page of a buffer mapped. */
  isInUse(buffer: CoherentBuffer): boolean;
}

/**
 * Device addresses that are grants, `bit 63 | ref << 12 | offset in page` as Linux' grant-dma-ops makes them: every share is
 * a fresh run of consecutive references, read-only when the device only reads. A grant opens whole pages: what else lies in
 * a page that is shared in part is open to the backend for as long.
 */
export function createGrantDmaMapper(options: GrantDmaMapperOptions): GrantDmaMapper {
  return new GrantDma(options);
}

class GrantDma implements GrantDmaMapper {
  readonly memory: MemoryRegion;
  readonly #memorySize: number;
  readonly #pages: PageAllocator;
  readonly #grants: GrantTable;
  readonly #backendDomain: DomId;
  readonly #quarantine: Quarantine;
  /** A typed array, so that unsigned words are stored without making a heap number. */
  readonly #address = new Uint32Array(2);

  constructor({ memory, pages, grants, backendDomain }: GrantDmaMapperOptions) {
    this.memory = memory;
    this.#memorySize = memory.size;
    this.#pages = pages;
    this.#grants = grants;
    this.#backendDomain = backendDomain;
    this.#quarantine = new Quarantine(grants, pages);
  }

  get addressLow(): number {
    return this.#address[LOW]!;
  }

  get addressHigh(): number {
    return this.#address[HIGH]!;
  }

  get heldCount(): number {
    return this.#quarantine.heldCount;
  }

  reclaim(): number {
    return this.#quarantine.retry();
  }

  isInUse(buffer: CoherentBuffer): boolean {
    const first = grantRefOf(buffer.addressLow, buffer.addressHigh);
    const count = Math.ceil(buffer.size / PAGE_SIZE);
    return Array.from({ length: count }, (_, index) => index).some((index) =>
      this.#grants.isInUse((first + index) as GrantRef),
    );
  }

  allocateCoherent(size: number): CoherentBuffer {
    const offset = this.allocate(size);
    const count = Math.ceil(size / PAGE_SIZE);
    this.memory.u8.fill(0, offset, offset + count * PAGE_SIZE);
    const ref = this.#grants.grantRange(this.#backendDomain, offset >>> PAGE_SHIFT, count, false);
    if (ref < 0) {
      this.#pages.free(offset, size);
      throw new DmaError(
        'ENOSPC',
        `No ${count} grant entries in a row are free (${this.#grants.freeCount} in all)`,
      );
    }
    return { offset, size, addressLow: grantAddressLow(ref, 0), addressHigh: grantAddressHigh(ref) };
  }

  freeCoherent(buffer: CoherentBuffer): boolean {
    const first = grantRefOf(buffer.addressLow, buffer.addressHigh);
    const hasEnded = this.#end(first, Math.ceil(buffer.size / PAGE_SIZE), buffer.offset);
    this.#quarantine.free(buffer.offset, buffer.size);
    return hasEnded;
  }

  allocate(size: number): number {
    this.#quarantine.retry();
    return this.#pages.allocate(size);
  }

  free(offset: number, size: number): void {
    this.#quarantine.free(offset, size);
  }

  share(offset: number, size: number, direction: DmaDirection): boolean {
    if (!(offset >= 0 && size > 0 && offset + size <= this.#memorySize)) {
      throw new RangeError(`Range ${offset}+${size} is not inside the memory of ${this.#memorySize} bytes`);
    }
    const frame = offset >>> PAGE_SHIFT;
    const count = pageCountOf(offset & OFFSET_MASK, size);
    const isReadonly = direction === TO_DEVICE;
    const ref =
      count === 1
        ? this.#grants.grantAccess(this.#backendDomain, frame, isReadonly)
        : this.#grants.grantRange(this.#backendDomain, frame, count, isReadonly);
    if (ref < 0) return false;
    this.#address[LOW] = grantAddressLow(ref, offset & OFFSET_MASK);
    this.#address[HIGH] = grantAddressHigh(ref);
    return true;
  }

  unshare(addressLow: number, addressHigh: number, size: number, _direction: DmaDirection): boolean {
    const ref = grantRefOf(addressLow, addressHigh);
    const count = pageCountOf(addressLow & OFFSET_MASK, size);
    if (count === 1 && this.#grants.endAccess(ref)) return true;
    return this.#end(ref, count, undefined);
  }

  /**
   * Ends consecutive grants one by one, since a table's `endRange` would take those in use upon itself and not say when their
   * pages are free: those that are in use stay ours to end later, with the pages they open.
   * `offset` is that of the first page, or undefined where the table has to be asked.
   */
  #end(first: GrantRef, count: number, offset: number | undefined): boolean {
    let hasEnded = true;
    for (let index = 0; index < count; index += 1) {
      const ref = (first + index) as GrantRef;
      if (this.#grants.endAccess(ref)) continue;
      hasEnded = false;
      this.#quarantine.hold(ref, offset === undefined ? this.#offsetOf(ref) : offset + index * PAGE_SIZE);
    }
    return hasEnded;
  }

  /** Slow, and for pages only that the backend holds on to. */
  #offsetOf(ref: GrantRef): number {
    const grant = this.#grants.live().find((each) => each.ref === ref);
    if (grant === undefined) throw new RangeError(`Grant reference ${ref} is not granted`);
    return grant.frame * PAGE_SIZE;
  }
}
