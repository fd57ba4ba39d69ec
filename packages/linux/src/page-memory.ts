import { ffi } from './ffi.ts';

const PAGE_SIZE = 4096;

export interface PageMemoryOptions {
  /** In a `SharedArrayBuffer`, for other threads. Default false. */
  readonly shared?: boolean;
}

/**
 * `size` zero bytes that begin on a page, as the memory of guests does. For large memory of which much is copied: the allocator
 * puts it 16 bytes behind the beginning of a page, and a processor may copy between places that lie so apart in their pages at
 * half its speed or less (AMD's Zen 3 and 4, by `rep movsb`).
 *
 * The caller owns it; it ends with its last view. Throws `RangeError` for a size that is no length of an array; `LinuxError` `ENOSYS`
 * without the FFI.
 */
export function pageMemory(size: number, { shared = false }: PageMemoryOptions = {}): Uint8Array {
  if (!Number.isSafeInteger(size) || size < 0) throw new RangeError(`Memory size ${size} is not a length`);
  const { koffi } = ffi('pageMemory');
  const length = size + PAGE_SIZE;
  const whole = new Uint8Array(shared ? new SharedArrayBuffer(length) : new ArrayBuffer(length));
  const behind = Number(koffi.address(whole) % BigInt(PAGE_SIZE));
  const start = (PAGE_SIZE - behind) % PAGE_SIZE;
  return whole.subarray(start, start + size);
}
