import {
  DMA_FAULT_ADDRESS,
  DMA_FAULT_LIMIT,
  DMA_FAULT_READONLY,
  DMA_OK,
  type DeviceMemory,
  type DmaStatus,
  type MappedArea,
} from '../dma.ts';
import type { MemoryRegion } from '../memory-region.ts';
import { PAGE_SIZE } from '../page-allocator.ts';
import type { SegmentList } from '../segment-list.ts';

/** Device addresses that reach bytes of a region, until closed. */
export interface LentWindow {
  readonly region: number;
  readonly offset: number;
  /** Device address; a double, below 2^53. */
  readonly address: number;
  readonly size: number;
  readonly writable: boolean;
  /** Index in the table of all windows ever opened. */
  readonly index: number;
}

/**
 * A device's memory that consists of windows. Segments end at every page border, as with grants, and a window
 * that the device has mapped cannot be closed.
 */
export class HostileDeviceMemory implements DeviceMemory {
  readonly regions: readonly MemoryRegion[];
  readonly #windows = new Map<number, LentWindow>();
  readonly #mapped = new Map<number, number>();
  readonly #areas = new Map<MappedArea, LentWindow>();
  #opened = 0;

  constructor(regions: readonly MemoryRegion[]) {
    this.regions = regions;
  }

  open(region: number, offset: number, address: number, size: number, writable: boolean): LentWindow {
    const window = { region, offset, address, size, writable, index: this.#opened++ };
    this.#windows.set(window.index, window);
    return window;
  }

  /** False when the device holds a part of it; the window is then closed to new mappings all the same. */
  close(window: LentWindow): boolean {
    this.#windows.delete(window.index);
    return !this.#mapped.has(window.index);
  }

  map(
    addressLow: number,
    addressHigh: number,
    size: number,
    writable: boolean,
    into: SegmentList,
  ): DmaStatus {
    if (size === 0) return DMA_OK;
    const address = addressHigh * 2 ** 32 + addressLow;
    const window = this.#find(address, size);
    if (window === undefined) return DMA_FAULT_ADDRESS;
    if (writable && !window.writable) return DMA_FAULT_READONLY;
    const from = into.count;
    let offset = window.offset + (address - window.address);
    const end = offset + size;
    while (offset < end) {
      const taken = Math.min(end - offset, PAGE_SIZE - (offset % PAGE_SIZE));
      if (!into.push(window.region, offset, taken, window.index)) {
        into.count = from;
        return DMA_FAULT_LIMIT;
      }
      offset += taken;
    }
    this.#hold(window.index, into.count - from);
    return DMA_OK;
  }

  unmap(list: SegmentList, from: number, to: number): void {
    for (let i = from; i < to; i++) this.#hold(list.handle[i]!, -1);
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    if (size <= 0 || address < 0n || address % BigInt(alignment) !== 0n) return DMA_FAULT_ADDRESS;
    const window = this.#find(Number(address), size);
    if (window === undefined) return DMA_FAULT_ADDRESS;
    if (writable && !window.writable) return DMA_FAULT_READONLY;
    const offset = window.offset + (Number(address) - window.address);
    const area = { region: this.regions[window.region]!, offset, size };
    this.#areas.set(area, window);
    this.#hold(window.index, 1);
    return area;
  }

  unmapArea(area: MappedArea): void {
    const window = this.#areas.get(area);
    if (window === undefined) throw new RangeError(`The area at offset ${area.offset} is not mapped`);
    this.#areas.delete(area);
    this.#hold(window.index, -1);
  }

  leaks(): readonly string[] {
    return Array.from(this.#mapped, ([index, count]) => `${count} mappings of window ${index}`);
  }

  #find(address: number, size: number): LentWindow | undefined {
    for (const window of this.#windows.values()) {
      if (address >= window.address && address + size <= window.address + window.size) return window;
    }
    return undefined;
  }

  #hold(index: number, change: number): void {
    const count = (this.#mapped.get(index) ?? 0) + change;
    if (count < 0) throw new RangeError(`Window ${index} is unmapped more often than it was mapped`);
    if (count === 0) this.#mapped.delete(index);
    else this.#mapped.set(index, count);
  }
}
