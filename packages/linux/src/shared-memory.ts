import { fstatSync } from 'node:fs';
import { ffi, lastError, type LibC } from './ffi.ts';
import { closeFd } from './fd.ts';
import {
  F_ADD_SEALS,
  F_GET_SEALS,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  MAP_ANONYMOUS,
  MAP_FAILED,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  PROT_READ,
  PROT_WRITE,
} from './kernel-abi.ts';
import { LinuxError } from './linux-error.ts';

/** V8 aborts the process for a larger view, so nothing larger is ever mapped as one. */
export const SHARED_MAPPING_SIZE_MAX: number = 2 ** 32;
const PAGE_SIZE = 4096;

export interface MemfdOptions {
  /**
   * Forbid to shrink, grow and unseal the memory for ever (default true): what a peer needs to map it safely.
   */
  readonly seal?: boolean;
}

/**
 * Anonymous memory behind a descriptor (memfd_create(2)): `size` zero bytes, close-on-exec. The caller owns
 * the descriptor; the memory lives as long as a descriptor or mapping of any process. `name` is for /proc
 * only.
 */
export function memfdCreate(name: string, size: number, options: MemfdOptions = {}): number {
  if (!Number.isSafeInteger(size) || size <= 0)
    throw new RangeError(`Memory size ${size} is not a positive integer`);
  const { libc } = ffi('memfd_create');
  const fd = libc.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw lastError('memfd_create', name);
  try {
    if (libc.ftruncate(fd, size) < 0) throw lastError('ftruncate', `${size} bytes`);
    const seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if ((options.seal ?? true) && libc.fcntl(fd, F_ADD_SEALS, 'int', seals) < 0) {
      throw lastError('fcntl(F_ADD_SEALS)', name);
    }
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

export interface MapOptions {
  /** Byte offset in the file, a multiple of the page size. Default 0. */
  readonly offset?: number;
  /**
   * Map memory that its owner can shrink: a touch of what it cut off kills this process (SIGBUS). Default
   * false.
   */
  readonly allowShrink?: boolean;
}

/** Address ranges are given back only when no view of them can be reached any more. */
let released: FinalizationRegistry<{ at: bigint; size: number }> | undefined;

/**
 * Memory shared with other processes. `buffer` aliases it; keep one buffer per mapping, for making one costs
 * tens of microseconds.
 *
 * `revoke` (also `Symbol.dispose`) ends the sharing at once by mapping private zero pages over the range:
 * views that somebody still holds read zeros and write nowhere, and never fault. The address range itself is
 * unmapped when the buffer is garbage. `buffer` must not be transferred (`ArrayBuffer.prototype.transfer`):
 * the collector would then take the range for unused.
 */
export class SharedMapping implements Disposable {
  readonly buffer: ArrayBuffer;
  /** Bytes. */
  readonly size: number;
  readonly #libc: LibC;
  readonly #at: bigint;
  #revoked = false;

  /** Use `mapShared`. */
  constructor(libc: LibC, at: bigint, size: number, buffer: ArrayBuffer) {
    this.#libc = libc;
    this.#at = at;
    this.size = size;
    this.buffer = buffer;
    released ??= new FinalizationRegistry((range) => void libc.munmap(range.at, range.size));
    released.register(buffer, { at, size });
  }

  get revoked(): boolean {
    return this.#revoked;
  }

  /**
   * Ends the sharing; further calls do nothing. Throws `LinuxError` when the kernel has no room for the
   * mapping.
   */
  revoke(): void {
    if (this.#revoked) return;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    const at = this.#libc.mmap(this.#at, this.size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at !== this.#at) throw lastError('mmap', 'revoking a mapping');
    this.#revoked = true;
  }

  [Symbol.dispose](): void {
    this.revoke();
  }
}

/**
 * Maps `size` bytes of a memfd, shared and writable. The descriptor stays the caller's and may be closed at
 * once.
 *
 * Throws `RangeError` for a size that is not positive or over 4 GiB and for a misaligned offset; `LinuxError`
 * `EPERM` when the memory is not sealed against shrinking (unless `allowShrink`), `EINVAL` when the file is
 * shorter than the range, and what mmap(2) says.
 */
export function mapShared(fd: number, size: number, options: MapOptions = {}): SharedMapping {
  const offset = options.offset ?? 0;
  if (!Number.isSafeInteger(size) || size <= 0 || size > SHARED_MAPPING_SIZE_MAX) {
    throw new RangeError(`Mapping size ${size} is not in 1..${SHARED_MAPPING_SIZE_MAX}`);
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % PAGE_SIZE !== 0) {
    throw new RangeError(`Mapping offset ${offset} is not a multiple of the page size`);
  }
  const { koffi, libc } = ffi('mmap');
  // The seal is looked at before the size: sealed memory cannot shrink between this look and the mapping.
  if (!(options.allowShrink ?? false)) {
    const seals = libc.fcntl(fd, F_GET_SEALS, 'int', 0);
    if (seals < 0 || (seals & F_SEAL_SHRINK) === 0) {
      throw new LinuxError(
        'EPERM',
        'mmap',
        `fd ${fd} lacks F_SEAL_SHRINK: its owner could shrink it under the mapping`,
      );
    }
  }
  const fileSize = fstatSync(fd).size;
  if (offset + size > fileSize) {
    throw new LinuxError(
      'EINVAL',
      'mmap',
      `range ${offset}+${size} is beyond the end of fd ${fd} (${fileSize} bytes)`,
    );
  }
  const at = libc.mmap(null, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (at === MAP_FAILED) throw lastError('mmap', `fd ${fd}, ${size} bytes`);
  return new SharedMapping(libc, at, size, koffi.view(at, size));
}
