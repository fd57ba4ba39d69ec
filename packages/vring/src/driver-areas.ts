import {
  VRING_DESC,
  VRING_PACKED_DESC_EVENT,
  VRING_PACKED_EVENT_ALIGN_SIZE,
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringPackedDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import type { QueueAddresses } from './contract.ts';
import type { AreaStart } from './ring-views.ts';

/** Bytes of the three areas, laid one after the other, and the alignment of the last one. */
export interface AreaSizes {
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
  readonly deviceAlignSize: number;
}

export function splitAreaSizes(size: number, usedAlignSize: number = VRING_USED_ALIGN_SIZE): AreaSizes {
  return {
    descriptors: vringDescSize(size),
    driver: vringAvailSize(size),
    device: vringUsedSize(size),
    deviceAlignSize: usedAlignSize,
  };
}

export function packedAreaSizes(size: number): AreaSizes {
  return {
    descriptors: vringPackedDescSize(size),
    driver: VRING_PACKED_DESC_EVENT.size,
    device: VRING_PACKED_DESC_EVENT.size,
    deviceAlignSize: VRING_PACKED_EVENT_ALIGN_SIZE,
  };
}

/**
 * The memory of a driver half, lent to the device for as long as the queue lives: the three areas in one allocation
 * (fewer grants) and, with indirect descriptors, one table for each descriptor in another.
 */
export class DriverAreas {
  readonly descriptors: AreaStart;
  readonly driver: AreaStart;
  readonly device: AreaStart;
  readonly addresses: QueueAddresses;
  /** Entries in each indirect table; 0 without. */
  readonly tableCapacity: number;
  /** Word index of table 0 in the mapper's memory; table `i` follows `i * tableCapacity` descriptors later. */
  readonly tableBase: number;
  /** Device address of each table, in two words. */
  readonly tableLow: Uint32Array;
  readonly tableHigh: Uint32Array;
  readonly #dma: DmaMapper;
  readonly #held: CoherentBuffer[] = [];

  /** Allocates; throws `DmaError` as `allocateCoherent` does, with nothing left behind. */
  constructor(dma: DmaMapper, size: number, tableCapacity: number, sizes: AreaSizes) {
    this.#dma = dma;
    const driverOffset = sizes.descriptors;
    const deviceOffset = alignUp(driverOffset + sizes.driver, sizes.deviceAlignSize);
    const areas = this.#allocate(deviceOffset + sizes.device);
    const region = dma.memory;
    const address = addressOf(areas);
    this.descriptors = { region, offset: areas.offset };
    this.driver = { region, offset: areas.offset + driverOffset };
    this.device = { region, offset: areas.offset + deviceOffset };
    this.addresses = {
      size,
      descriptorArea: address,
      driverArea: address + BigInt(driverOffset),
      deviceArea: address + BigInt(deviceOffset),
    };
    this.tableCapacity = tableCapacity;
    this.tableLow = new Uint32Array(tableCapacity === 0 ? 0 : size);
    this.tableHigh = new Uint32Array(this.tableLow.length);
    if (tableCapacity === 0) {
      this.tableBase = 0;
      return;
    }
    const tableSize = tableCapacity * VRING_DESC.size;
    const tables = this.#allocate(tableSize * size);
    this.tableBase = tables.offset / 4;
    for (let i = 0; i < size; i++) {
      const table = addressOf(tables) + BigInt(i * tableSize);
      this.tableLow[i] = Number(table & 0xffff_ffffn);
      this.tableHigh[i] = Number(table >> 32n);
    }
  }

  /** Takes the memory back, each piece once however often this is asked. False when the device still holds some. */
  free(): boolean {
    let freed = true;
    for (const buffer of this.#held.splice(0)) {
      if (!this.#dma.freeCoherent(buffer)) freed = false;
    }
    return freed;
  }

  #allocate(size: number): CoherentBuffer {
    try {
      const buffer = this.#dma.allocateCoherent(size);
      this.#held.push(buffer);
      return buffer;
    } catch (error) {
      this.free();
      throw error;
    }
  }
}

function addressOf(buffer: CoherentBuffer): bigint {
  return (BigInt(buffer.addressHigh >>> 0) << 32n) | BigInt(buffer.addressLow >>> 0);
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
