/**
 * A contiguous window of bytes that ring code and devices reach with typed arrays.
 *
 * The views alias the same bytes. A region is made once and kept: a view over mapped memory costs tens of
 * microseconds to create, so nothing on a data path makes one. `size` is a multiple of 8 and at most 4 GiB,
 * so that every offset fits an unsigned 32-bit word.
 */
export interface MemoryRegion {
  /** Bytes. */
  readonly size: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
}

export const MEMORY_REGION_SIZE_MAX: number = 2 ** 32;

/**
 * Views over `buffer[byteOffset, byteOffset + size)`. The caller keeps owning the memory.
 * Throws `RangeError` for a misaligned offset (8), a size that is zero, no multiple of 8, or over 4 GiB.
 */
export function memoryRegion(
  buffer: ArrayBufferLike,
  byteOffset: number = 0,
  size: number = buffer.byteLength - byteOffset,
): MemoryRegion {
  if (byteOffset % 8 !== 0) throw new RangeError(`Region offset ${byteOffset} is not 8-byte aligned`);
  if (!(size > 0) || size % 8 !== 0 || size > MEMORY_REGION_SIZE_MAX) {
    throw new RangeError(`Region size ${size} is not a positive multiple of 8 of at most 4 GiB`);
  }
  return {
    size,
    u8: new Uint8Array(buffer, byteOffset, size),
    u16: new Uint16Array(buffer, byteOffset, size / 2),
    u32: new Uint32Array(buffer, byteOffset, size / 4),
    i32: new Int32Array(buffer, byteOffset, size / 4),
  };
}

/** Reads a 16-bit index that the other party publishes; later plain reads see what it wrote before (rmb). */
export function loadIndexAcquire(u16: Uint16Array, index: number): number {
  return Atomics.load(u16, index);
}

/** Publishes a 16-bit index after earlier plain writes (wmb); ordered against later `loadIndexAcquire` (mb). */
export function storeIndexRelease(u16: Uint16Array, index: number, value: number): void {
  Atomics.store(u16, index, value);
}

/**
 * The same for a 32-bit word, for rings whose index lies beside other fields of one word. Signed, so that the value is
 * an integer of the engine's own whatever its bits.
 */
export function loadWordAcquire(i32: Int32Array, index: number): number {
  return Atomics.load(i32, index);
}

/** Publishes a 32-bit word as `storeIndexRelease` does a 16-bit one. */
export function storeWordRelease(i32: Int32Array, index: number, value: number): void {
  Atomics.store(i32, index, value);
}
