import {
  DMA_FAULT_ADDRESS,
  type DeviceMemory,
  type DmaStatus,
  type MappedArea,
  type MemoryRegion,
  type SegmentList,
} from '@virtlab/guest-memory';

/**
 * The driver's memory, reachable while the function may master the bus (PCI_COMMAND_MASTER, PCI §6.2.2): before, every
 * mapping faults, as in QEMU's bus-master address space. What is mapped stays mapped until its owner ends it.
 */
export class BusMasterMemory implements DeviceMemory {
  open = false;
  readonly #memory: DeviceMemory;

  constructor(memory: DeviceMemory) {
    this.#memory = memory;
  }

  get regions(): readonly MemoryRegion[] {
    return this.#memory.regions;
  }

  map(
    addressLow: number,
    addressHigh: number,
    size: number,
    writable: boolean,
    into: SegmentList,
  ): DmaStatus {
    return this.open ? this.#memory.map(addressLow, addressHigh, size, writable, into) : DMA_FAULT_ADDRESS;
  }

  unmap(list: SegmentList, from: number, to: number): void {
    this.#memory.unmap(list, from, to);
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    return this.open ? this.#memory.mapArea(address, size, alignment, writable) : DMA_FAULT_ADDRESS;
  }

  unmapArea(area: MappedArea): void {
    this.#memory.unmapArea(area);
  }
}
