import type { DomId } from '@virtlab/abi/brands';
import { GNTST_no_space, GNTST_okay, XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import { XEN_PAGE_OFFSET_MASK, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantMapper } from '@virtlab/grant-table';
import {
  DMA_FAULT_ADDRESS,
  DMA_FAULT_GRANT,
  DMA_FAULT_LIMIT,
  DMA_FAULT_READONLY,
  DMA_OK,
  type DeviceMemory,
  type DmaStatus,
  type MappedArea,
  type MemoryRegion,
  SegmentList,
} from '@virtlab/guest-memory';
import { grantRefOf, isGrantAddress, pageCountOf } from './grant-address.ts';
import { MappedPages, REF_MAX } from './mapped-pages.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const PAGE_SIZE = XEN_PAGE_SIZE;
const OFFSET_MASK = XEN_PAGE_OFFSET_MASK;
const OK = DMA_OK;
const OKAY = GNTST_okay;
const NO_REGION = -1;

/** Pages mapped at once unless told otherwise: as many as a mapper of virtlab's domains has handles. */
const MAP_COUNT_MAX_DEFAULT = 65_536;
const ADDRESS_END = 1n << 64n;

export interface GrantDeviceMemoryOptions {
  readonly mapper: GrantMapper;
  /** Whose grants the addresses are. */
  readonly frontendDomain: DomId;
  /** Pages mapped at once at most; more is `DMA_FAULT_LIMIT`. Default 65536. */
  readonly mapCountMax?: number;
}

export interface GrantDeviceMemory extends DeviceMemory {
  /** Pages mapped now, for leak checks. */
  readonly mappedPageCount: number;
}

/**
 * What a device reaches of a frontend's domain: the pages granted to the mapper's domain, by addresses
 * `bit 63 | ref << 12 | offset in page`, mapped for as long as they are used. Pages whose frames follow each other make one
 * segment; those of an area must (`DMA_FAULT_ADDRESS` otherwise: ring words are reached through one region and offset).
 * A segment's handle names its first reference; the others follow.
 */
export function createGrantDeviceMemory(options: GrantDeviceMemoryOptions): GrantDeviceMemory {
  return new GrantMemory(options);
}

class GrantMemory implements GrantDeviceMemory {
  readonly #mapper: GrantMapper;
  readonly #domain: DomId;
  readonly #mapCountMax: number;
  readonly #pages: MappedPages;
  readonly #regions: MemoryRegion[] = [];
  /** Of the frontend's RAM, once it was reached: a domain has one for as long as it lives, and grants none afterwards. */
  #region = NO_REGION;
  readonly #areas = new Map<MappedArea, number>();
  readonly #areaSegments = new SegmentList(8);
  /** Status of the mapping that failed last. */
  #refusal = 0;

  constructor({ mapper, frontendDomain, mapCountMax = MAP_COUNT_MAX_DEFAULT }: GrantDeviceMemoryOptions) {
    this.#mapper = mapper;
    this.#domain = frontendDomain;
    this.#mapCountMax = mapCountMax;
    this.#pages = new MappedPages(mapper, frontendDomain);
  }

  get regions(): readonly MemoryRegion[] {
    return this.#regions;
  }

  get mappedPageCount(): number {
    return this.#pages.count;
  }

  map(
    addressLow: number,
    addressHigh: number,
    size: number,
    writable: boolean,
    into: SegmentList,
  ): DmaStatus {
    if (size === 0) return OK;
    if (!isGrantAddress(addressHigh)) return DMA_FAULT_ADDRESS;
    const ref: number = grantRefOf(addressLow, addressHigh);
    const offset = addressLow & OFFSET_MASK;
    const pageCount = pageCountOf(offset, size);
    if (ref + pageCount - 1 > REF_MAX) return DMA_FAULT_GRANT;
    const region = this.#region >= 0 ? this.#region : this.#reach();
    if (region < 0) return DMA_FAULT_GRANT;
    if (pageCount === 1) return this.#mapPage(region, ref, offset, size, writable, into);
    if (pageCount > this.#mapCountMax) return DMA_FAULT_LIMIT;
    const mapped = this.#acquire(ref, pageCount, writable);
    if (mapped < pageCount) {
      this.#release(slotOf(ref, writable), mapped);
      return this.#faultOf(ref + mapped, writable);
    }
    const from = into.count;
    if (this.#append(region, ref, offset, size, writable, into)) return OK;
    into.count = from;
    this.#release(slotOf(ref, writable), pageCount);
    return DMA_FAULT_LIMIT;
  }

  unmap(list: SegmentList, from: number, to: number): void {
    for (let index = from; index < to; index += 1) {
      const count = pageCountOf(list.offset[index]! & OFFSET_MASK, list.size[index]!);
      const slot = list.handle[index]!;
      if (count === 1) this.#pages.release(slot);
      else this.#release(slot, count);
    }
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    if (address < XEN_GRANT_DMA_ADDR_OFF || address >= ADDRESS_END || size <= 0) return DMA_FAULT_ADDRESS;
    const segments = this.#areaSegments;
    segments.clear();
    const status = this.map(Number(address & 0xffff_ffffn), Number(address >> 32n), size, writable, segments);
    if (status !== OK) return status;
    const offset = segments.offset[0]!;
    if (segments.count > 1 || offset % alignment !== 0) {
      this.unmap(segments, 0, segments.count);
      return DMA_FAULT_ADDRESS;
    }
    const area: MappedArea = { region: this.#regions[segments.region[0]!]!, offset, size };
    this.#areas.set(area, segments.handle[0]!);
    return area;
  }

  unmapArea(area: MappedArea): void {
    const slot = this.#areas.get(area);
    if (slot === undefined) throw new RangeError(`The area at offset ${area.offset} is not mapped`);
    this.#areas.delete(area);
    this.#release(slot, pageCountOf(area.offset & OFFSET_MASK, area.size));
  }

  /** Index of the frontend's RAM in `regions`, or `NO_REGION` while it is out of reach. */
  #reach(): number {
    const ram = this.#mapper.ram(this.#domain);
    if (ram === undefined) return NO_REGION;
    this.#region = this.#regions.push(ram) - 1;
    return this.#region;
  }

  /** What nearly every buffer is: within one page. */
  #mapPage(
    region: number,
    ref: number,
    offset: number,
    size: number,
    writable: boolean,
    into: SegmentList,
  ): DmaStatus {
    const pages = this.#pages;
    const slot = slotOf(ref, writable);
    const status = pages.acquire(ref, writable);
    if (status !== OKAY) {
      this.#refusal = status;
      return this.#faultOf(ref, writable);
    }
    const isWithin = pages.count <= this.#mapCountMax;
    if (isWithin && into.push(region, pages.frameOf(slot) * PAGE_SIZE + offset, size, slot)) return OK;
    pages.release(slot);
    return DMA_FAULT_LIMIT;
  }

  /** Maps pages in order until one fails; answers how many it mapped. */
  #acquire(first: number, count: number, writable: boolean): number {
    for (let index = 0; index < count; index += 1) {
      const status = this.#pages.acquire(first + index, writable);
      if (status === OKAY) {
        if (this.#pages.count <= this.#mapCountMax) continue;
        this.#pages.release(slotOf(first + index, writable));
        this.#refusal = GNTST_no_space;
      } else this.#refusal = status;
      return index;
    }
    return count;
  }

  #release(slot: number, count: number): void {
    for (let index = 0; index < count; index += 1) this.#pages.release(slot + index * 2);
  }

  /** One segment for each run of frames; false when the list is full. */
  #append(
    region: number,
    firstRef: number,
    offset: number,
    size: number,
    writable: boolean,
    into: SegmentList,
  ): boolean {
    let slot = slotOf(firstRef, writable);
    let inPage = offset;
    let rest = size;
    while (rest > 0) {
      const start = slot;
      const startFrame = this.#pages.frameOf(slot);
      let taken = Math.min(rest, PAGE_SIZE - inPage);
      slot += 2;
      for (let frame = startFrame + 1; taken < rest && this.#pages.frameOf(slot) === frame; frame += 1) {
        taken += Math.min(rest - taken, PAGE_SIZE);
        slot += 2;
      }
      if (!into.push(region, startFrame * PAGE_SIZE + inPage, taken, start)) return false;
      rest -= taken;
      inPage = 0;
    }
    return true;
  }

  /** Xen has one error for all that a peer can do wrong with an entry: whether it may be read tells the rest. */
  #faultOf(ref: number, writable: boolean): DmaStatus {
    if (this.#refusal === GNTST_no_space) return DMA_FAULT_LIMIT;
    if (!writable || this.#pages.acquire(ref, false) !== OKAY) return DMA_FAULT_GRANT;
    this.#pages.release(slotOf(ref, false));
    return DMA_FAULT_READONLY;
  }
}

function slotOf(ref: number, writable: boolean): number {
  return ref * 2 + (writable ? 1 : 0);
}
