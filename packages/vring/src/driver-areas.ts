import {
  VRING_DESC,
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import type { QueueAddresses } from './contract.ts';
import { RingViews } from './ring-views.ts';

/**
 * The memory of a driver half, lent to the device for as long as the queue lives: the three areas in one allocation
 * (fewer grants) and, with indirect descriptors, one table for each descriptor in another.
 */
export class DriverAreas {
  readonly ring: RingViews;
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
  constructor(dma: DmaMapper, size: number, tableCapacity: number) {
    this.#dma = dma;
    const driverOffset = vringDescSize(size);
    const deviceOffset = alignUp(driverOffset + vringAvailSize(size), VRING_USED_ALIGN_SIZE);
    const areas = this.#allocate(deviceOffset + vringUsedSize(size));
    const region = dma.memory;
    const address = addressOf(areas);
    this.ring = new RingViews(
      size,
      { region, offset: areas.offset },
      { region, offset: areas.offset + driverOffset },
      { region, offset: areas.offset + deviceOffset },
    );
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
