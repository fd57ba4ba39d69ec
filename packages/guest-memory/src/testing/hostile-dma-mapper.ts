import {
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  DmaError,
  type CoherentBuffer,
  type DeviceMemory,
  type DmaDirection,
  type DmaMapper,
} from '../dma.ts';
import { memoryRegion, type MemoryRegion } from '../memory-region.ts';
import { PAGE_SIZE, PageAllocator } from '../page-allocator.ts';
import { HostileDeviceMemory, type LentWindow } from './hostile-device-memory.ts';

/** Fills memory that nobody may rely on. */
export const POISON = 0xdb;

/** Beyond 32 bits, so that code which loses the high word fails. */
const FIRST_ADDRESS = 0x7_0000_0000;

const MEMORY = 0;
const BOUNCE = 1;

export interface HostileDmaMapperOptions {
  /** Bytes of driver memory. Default 1 MiB. */
  readonly memorySize?: number;
  /**
   * `share` fails while so many shares live. Default: as many as bounce memory (as large as the memory)
   * holds.
   */
  readonly shareMax?: number;
}

interface Share extends LentWindow {
  readonly driverOffset: number;
  readonly direction: DmaDirection;
}

/**
 * A DmaMapper that makes careless drivers fail. The device sees a copy taken at `share` and the driver sees
 * the device's bytes only after `unshare`; what the contract leaves undefined is filled with `POISON`. Device
 * addresses differ from offsets, need both words and are never used twice. Overlapping shares are refused
 * with an exception unless both are to the device: with a copy on each side, neither would be right.
 */
export class HostileDmaMapper implements DmaMapper {
  readonly memory: MemoryRegion;
  /** What the device of this driver reaches: live shares, in their direction, and coherent buffers. */
  readonly deviceMemory: DeviceMemory;
  addressLow = 0;
  addressHigh = 0;
  readonly #windows: HostileDeviceMemory;
  readonly #pages: PageAllocator;
  readonly #bounce: MemoryRegion;
  readonly #bouncePages: PageAllocator;
  readonly #shareMax: number;
  readonly #shares = new Map<number, Share>();
  readonly #coherent = new Map<CoherentBuffer, LentWindow>();
  readonly #quarantined: string[] = [];
  #nextAddress = FIRST_ADDRESS;

  constructor(options: HostileDmaMapperOptions = {}) {
    const size = options.memorySize ?? 1 << 20;
    this.memory = memoryRegion(new ArrayBuffer(size));
    this.memory.u8.fill(POISON);
    this.#bounce = memoryRegion(new ArrayBuffer(size));
    this.#bounce.u8.fill(POISON);
    this.#pages = new PageAllocator(0, size);
    this.#bouncePages = new PageAllocator(0, size);
    this.#shareMax = options.shareMax ?? Infinity;
    this.#windows = new HostileDeviceMemory([this.memory, this.#bounce]);
    this.deviceMemory = this.#windows;
  }

  allocateCoherent(size: number): CoherentBuffer {
    const offset = this.#pages.allocate(size);
    this.memory.u8.fill(0, offset, offset + wholePages(size));
    const window = this.#windows.open(MEMORY, offset, this.#takeAddresses(0, size), size, true);
    const buffer = { offset, size, addressLow: window.address >>> 0, addressHigh: highWord(window.address) };
    this.#coherent.set(buffer, window);
    return buffer;
  }

  freeCoherent(buffer: CoherentBuffer): boolean {
    const window = this.#coherent.get(buffer);
    if (window === undefined)
      throw new RangeError(`The coherent buffer at offset ${buffer.offset} is not allocated`);
    this.#coherent.delete(buffer);
    if (!this.#windows.close(window)) {
      this.#quarantined.push(`coherent buffer at offset ${buffer.offset}, still held by the device`);
      return false;
    }
    this.free(buffer.offset, buffer.size);
    return true;
  }

  allocate(size: number): number {
    return this.#pages.allocate(size);
  }

  free(offset: number, size: number): void {
    for (const share of this.#shares.values()) {
      if (overlap(share.driverOffset, share.size, offset, wholePages(size))) {
        throw new RangeError(
          `Memory at offset ${offset} is freed while offset ${share.driverOffset} is shared`,
        );
      }
    }
    this.#pages.free(offset, size);
    this.memory.u8.fill(POISON, offset, offset + wholePages(size));
  }

  share(offset: number, size: number, direction: DmaDirection): boolean {
    if (!(offset >= 0 && size > 0 && offset + size <= this.memory.size)) {
      throw new RangeError(`Range ${offset}+${size} is not inside the memory of ${this.memory.size} bytes`);
    }
    this.#refuseOverlap(offset, size, direction);
    if (this.#shares.size >= this.#shareMax) return false;
    const inPage = offset % PAGE_SIZE;
    const bounceAt = this.#takeBounce(inPage + size);
    if (bounceAt < 0) return false;
    const at = bounceAt + inPage;
    if ((direction & DMA_TO_DEVICE) !== 0)
      this.#bounce.u8.set(this.memory.u8.subarray(offset, offset + size), at);
    const address = this.#takeAddresses(inPage, size);
    const writable = (direction & DMA_FROM_DEVICE) !== 0;
    const window = this.#windows.open(BOUNCE, at, address, size, writable);
    this.#shares.set(address, Object.assign(window, { driverOffset: offset, direction }));
    this.addressLow = address >>> 0;
    this.addressHigh = highWord(address);
    return true;
  }

  unshare(addressLow: number, addressHigh: number, size: number, direction: DmaDirection): boolean {
    const address = addressHigh * 2 ** 32 + addressLow;
    const share = this.#shares.get(address);
    if (share === undefined || share.size !== size || share.direction !== direction) {
      throw new RangeError(`No live share has address ${address}, size ${size} and direction ${direction}`);
    }
    this.#shares.delete(address);
    if (!this.#windows.close(share)) {
      this.#quarantined.push(`share of offset ${share.driverOffset}, still held by the device`);
      return false;
    }
    const bytes = this.#bounce.u8.subarray(share.offset, share.offset + size);
    if ((direction & DMA_FROM_DEVICE) !== 0) this.memory.u8.set(bytes, share.driverOffset);
    bytes.fill(POISON);
    const inPage = share.offset % PAGE_SIZE;
    this.#bouncePages.free(share.offset - inPage, inPage + size);
    return true;
  }

  /**
   * What the driver has not taken back, the allocations it has not freed, and what the device still has
   * mapped.
   */
  leaks(): readonly string[] {
    return [
      ...Array.from(
        this.#shares.values(),
        (share) => `share of offset ${share.driverOffset}, ${share.size} bytes`,
      ),
      ...Array.from(
        this.#coherent.keys(),
        (buffer) => `coherent buffer at offset ${buffer.offset}, ${buffer.size} bytes`,
      ),
      ...this.#quarantined,
      ...(this.#pages.usedPages > 0 ? [`${this.#pages.usedPages} allocated pages`] : []),
      ...this.#windows.leaks(),
    ];
  }

  /** Throws when anything is lent, allocated, mapped or quarantined. */
  assertNothingLent(): void {
    const leaks = this.leaks();
    if (leaks.length > 0) throw new Error(`Not taken back: ${leaks.join('; ')}`);
  }

  #refuseOverlap(offset: number, size: number, direction: DmaDirection): void {
    for (const share of this.#shares.values()) {
      if (share.direction === DMA_TO_DEVICE && direction === DMA_TO_DEVICE) continue;
      if (overlap(share.driverOffset, share.size, offset, size)) {
        throw new RangeError(
          `Offset ${offset}+${size} overlaps the live share ${share.driverOffset}+${share.size}`,
        );
      }
    }
  }

  #takeBounce(size: number): number {
    try {
      return this.#bouncePages.allocate(size);
    } catch (error) {
      if (error instanceof DmaError) return -1;
      throw error;
    }
  }

  /** Fresh device addresses with a hole behind them, so that running over the end faults. */
  #takeAddresses(inPage: number, size: number): number {
    const address = this.#nextAddress + inPage;
    this.#nextAddress += wholePages(inPage + size) + PAGE_SIZE;
    return address;
  }
}

function wholePages(size: number): number {
  return Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

function highWord(address: number): number {
  return Math.floor(address / 2 ** 32);
}

function overlap(a: number, aSize: number, b: number, bSize: number): boolean {
  return a < b + bSize && b < a + aSize;
}
