import { DMA_OK, type DeviceMemory, type DmaStatus, type MappedArea } from '../dma.ts';
import type { MemoryRegion } from '../memory-region.ts';
import type { SegmentList } from '../segment-list.ts';

/**
 * Wraps a device's memory and holds its user to the rule that each segment and area is unmapped exactly once.
 */
export class CountingDeviceMemory implements DeviceMemory {
  readonly #inner: DeviceMemory;
  readonly #segments = new Map<string, number>();
  readonly #areas = new Set<MappedArea>();
  /** Calls so far, and how many of them ended in a fault. */
  mapCalls = 0;
  faults = 0;

  constructor(inner: DeviceMemory) {
    this.#inner = inner;
  }

  get regions(): readonly MemoryRegion[] {
    return this.#inner.regions;
  }

  map(
    addressLow: number,
    addressHigh: number,
    size: number,
    writable: boolean,
    into: SegmentList,
  ): DmaStatus {
    const from = into.count;
    this.mapCalls++;
    const status = this.#inner.map(addressLow, addressHigh, size, writable, into);
    if (status !== DMA_OK) {
      this.faults++;
      if (into.count !== from) throw new Error(`A faulting map appended ${into.count - from} segments`);
    }
    for (let i = from; i < into.count; i++) {
      const key = segmentKey(into, i);
      this.#segments.set(key, (this.#segments.get(key) ?? 0) + 1);
    }
    return status;
  }

  unmap(list: SegmentList, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const key = segmentKey(list, i);
      const count = this.#segments.get(key) ?? 0;
      if (count === 0)
        throw new Error(`Segment ${i} (${key}) is not mapped: unmapped twice, or changed meanwhile`);
      if (count === 1) this.#segments.delete(key);
      else this.#segments.set(key, count - 1);
    }
    this.#inner.unmap(list, from, to);
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    const area = this.#inner.mapArea(address, size, alignment, writable);
    if (typeof area === 'object') this.#areas.add(area);
    return area;
  }

  unmapArea(area: MappedArea): void {
    if (!this.#areas.delete(area)) throw new Error(`The area at offset ${area.offset} is not mapped`);
    this.#inner.unmapArea(area);
  }

  /** What is mapped now. */
  leaks(): readonly string[] {
    const areas = Array.from(this.#areas, (area) => `area at offset ${area.offset}, ${area.size} bytes`);
    return [...Array.from(this.#segments, ([key, count]) => `${count} x segment ${key}`), ...areas];
  }

  assertNothingMapped(): void {
    const leaks = this.leaks();
    if (leaks.length > 0) throw new Error(`Still mapped: ${leaks.join('; ')}`);
  }
}

function segmentKey(list: SegmentList, i: number): string {
  return `region ${list.region[i]} offset ${list.offset[i]} size ${list.size[i]} handle ${list.handle[i]}`;
}
