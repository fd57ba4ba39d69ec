import type { MemoryRegion } from './memory-region.ts';
import type { SegmentList } from './segment-list.ts';

/**
 * The two halves of DMA, the seam that swaps together with the transport: what is the identity over PCI is
 * grant references over xenbus. Device addresses are 64 bits, carried as two unsigned 32-bit words on the data
 * path; bit 63 set means a grant (`bit 63 | ref << 12 | page offset`), otherwise the word is a guest-physical address.
 */

/** Which party writes during the transfer. The device may only read, or only write, or both (coherent memory). */
export const DMA_TO_DEVICE = 1;
export const DMA_FROM_DEVICE = 2;
export const DMA_BIDIRECTIONAL = 3;
export type DmaDirection = typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE | typeof DMA_BIDIRECTIONAL;

/** Memory lent to the device until it is freed: rings, indirect tables, request headers, receive buffers. */
export interface CoherentBuffer {
  /** Offset in the driver's `DmaMapper.memory`; page aligned. */
  readonly offset: number;
  /** Bytes, as asked for (the allocation is rounded up to whole pages). */
  readonly size: number;
  /** Device address of the first byte; the buffer is contiguous in device addresses too. */
  readonly addressLow: number;
  readonly addressHigh: number;
}

/** Driver side: how a driver lends its memory to the device. Owned by one driver; not shared between devices. */
export interface DmaMapper {
  /** The memory that all buffers of this driver lie in: its own domain's RAM. */
  readonly memory: MemoryRegion;

  /**
   * Zeroed, page-aligned memory shared both ways until `freeCoherent`. Control plane only (it allocates).
   * Throws `DmaError` with code `ENOMEM` (no memory) or `ENOSPC` (no grant entries).
   */
  allocateCoherent(size: number): CoherentBuffer;
  /** Takes the memory back. False when the device still holds it: the memory is then quarantined, not reused. */
  freeCoherent(buffer: CoherentBuffer): boolean;

  /** Ordinary driver memory for payloads; not visible to the device until shared. Page aligned. `ENOMEM` as above. */
  allocate(size: number): number;
  free(offset: number, size: number): void;

  /**
   * Lends `memory[offset, offset + size)` for one transfer. On success leaves the device address in
   * `addressLow`/`addressHigh` and returns true; false when no address can be had now (grant entries exhausted:
   * retry after an `unshare`). Never allocates or throws for well-formed ranges. The same bytes may be shared twice.
   */
  share(offset: number, size: number, direction: DmaDirection): boolean;
  /** The address made by the latest successful `share`; unsigned 32-bit words. */
  readonly addressLow: number;
  readonly addressHigh: number;

  /**
   * Ends one `share`, given its address, size and direction. False when the device still holds the memory
   * (an entry in use, xen/grant_table.h): the caller must treat the device as broken.
   */
  unshare(addressLow: number, addressHigh: number, size: number, direction: DmaDirection): boolean;
}

/** `map` results. Anything but `DMA_OK` is the driver's violation and names its kind. */
export const DMA_OK = 0;
/** The range is not wholly inside memory that the driver may lend, or wraps 2^64. */
export const DMA_FAULT_ADDRESS = 1;
/** No such grant, or granted to somebody else, revoked, or unusable entry type. */
export const DMA_FAULT_GRANT = 2;
/** The grant is read-only and the access writes. */
export const DMA_FAULT_READONLY = 3;
/** The range needs more mappings than the device may hold. */
export const DMA_FAULT_LIMIT = 4;
export type DmaStatus =
  | typeof DMA_OK
  | typeof DMA_FAULT_ADDRESS
  | typeof DMA_FAULT_GRANT
  | typeof DMA_FAULT_READONLY
  | typeof DMA_FAULT_LIMIT;

/** A mapping of ring memory, held until `unmapArea`. Contiguous: word accesses at `region` offsets are valid. */
export interface MappedArea {
  readonly region: MemoryRegion;
  readonly offset: number;
  readonly size: number;
}

/** Device side: how a device reaches what the driver lent, and nothing else. */
export interface DeviceMemory {
  /** Regions that segments index. May grow while mapped; entries never move. */
  readonly regions: readonly MemoryRegion[];

  /**
   * Maps `size` bytes at a device address for reading, or for writing too, and appends the segments to `into`
   * (one, or more where lent pages are not contiguous). `size` 0 appends nothing. On a fault nothing is appended
   * and nothing stays mapped. Never throws, never allocates beyond growing `into`.
   */
  map(addressLow: number, addressHigh: number, size: number, writable: boolean, into: SegmentList): DmaStatus;

  /** Ends the mappings of segments `[from, to)` of `list`; each exactly once. */
  unmap(list: SegmentList, from: number, to: number): void;

  /** Maps ring memory until `unmapArea`; a fault is returned as a status. `alignment` in bytes, power of two. */
  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus;
  unmapArea(area: MappedArea): void;
}

/** An operation on driver memory that could not be done. */
export class DmaError extends Error {
  readonly code: 'ENOMEM' | 'ENOSPC';
  constructor(code: 'ENOMEM' | 'ENOSPC', message: string) {
    super(`${code}: ${message}`);
    this.name = 'DmaError';
    this.code = code;
  }
}
