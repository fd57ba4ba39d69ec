import { fstatSync } from 'node:fs';
import { ffi, lastErrno, lastError, type LibC } from './ffi.ts';
import { closeFd } from './fd.ts';
import {
  EINTR,
  F_ADD_SEALS,
  F_GET_SEALS,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  HUGETLBFS_MAGIC,
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
  STATFS_SIZE,
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
  /** Byte offset in the file, a multiple of its page size (`memoryPageSize`). Default 0. */
  readonly offset?: number;
  /**
   * Map memory that its owner can take back: a touch of what is gone kills this process (SIGBUS). Default false.
   */
  readonly allowShrink?: boolean;
}

/** Address ranges are given back only when no view of them can be reached any more. */
let released: FinalizationRegistry<{ at: bigint; size: number }> | undefined;

/**
 * Memory shared with other processes. `buffer` aliases it; keep one buffer per mapping, for making one costs
 * tens of microseconds.
 *
 * `revoke` (also `Symbol.dispose`) ends the sharing at once by mapping zero pages of its own over the range:
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
  /** Bytes of the range, in whole pages of what was mapped: less of a huge page can be neither replaced nor unmapped. */
  readonly #rangeSize: number;
  #revoked = false;

  /** Use `mapShared`. */
  constructor(libc: LibC, at: bigint, rangeSize: number, buffer: ArrayBuffer) {
    this.#libc = libc;
    this.#at = at;
    this.#rangeSize = rangeSize;
    this.size = buffer.byteLength;
    this.buffer = buffer;
    released ??= new FinalizationRegistry((range) => void libc.munmap(range.at, range.size));
    released.register(buffer, { at, size: rangeSize });
  }

  get revoked(): boolean {
    return this.#revoked;
  }

  /**
   * Ends the sharing; further calls do nothing. Throws `LinuxError` when the kernel has no room for the mapping that takes its
   * place, and shares on.
   *
   * That is a memfd of its own, of which only pages that are touched count. Private memory would count whole, as data of this
   * process that nobody means to use: under RLIMIT_DATA or vm.overcommit_memory 2 nothing would be left for what does. It serves
   * where no descriptor is to be had.
   */
  revoke(): void {
    if (this.#revoked) return;
    const fd = emptyMemory(this.#rangeSize);
    try {
      const flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
      const protection = PROT_READ | PROT_WRITE;
      const at = this.#libc.mmap(this.#at, this.#rangeSize, protection, flags | MAP_FIXED, fd, 0);
      if (at !== this.#at) throw lastError('mmap', 'revoking a mapping');
    } finally {
      if (fd >= 0) closeFd(fd);
    }
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
 * `EPERM` (unless `allowShrink`) when the memory is not sealed against shrinking or is huge pages, which can be taken back by
 * a hole however they are sealed, `EINVAL` when the file is shorter than the range, and what mmap(2) says.
 */
export function mapShared(fd: number, size: number, options: MapOptions = {}): SharedMapping {
  const offset = options.offset ?? 0;
  if (!Number.isSafeInteger(size) || size <= 0 || size > SHARED_MAPPING_SIZE_MAX) {
    throw new RangeError(`Mapping size ${size} is not in 1..${SHARED_MAPPING_SIZE_MAX}`);
  }
  const { koffi, libc } = ffi('mmap');
  const pageSize = memoryPageSize(fd);
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % pageSize !== 0) {
    throw new RangeError(`Mapping offset ${offset} is not a multiple of the page size, ${pageSize}`);
  }
  // The seal is looked at before the size: sealed memory cannot shrink between this look and the mapping.
  if (!(options.allowShrink ?? false)) assertKept(libc, fd, pageSize);
  const fileSize = fstatSync(fd).size;
  if (offset + size > fileSize) {
    throw new LinuxError(
      'EINVAL',
      'mmap',
      `range ${offset}+${size} is beyond the end of fd ${fd} (${fileSize} bytes)`,
    );
  }
  const rangeSize = Math.ceil(size / pageSize) * pageSize;
  if (rangeSize > SHARED_MAPPING_SIZE_MAX)
    throw new RangeError(`A page of ${pageSize} bytes is too large to map`);
  const at = libc.mmap(null, rangeSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (at === MAP_FAILED) throw lastError('mmap', `fd ${fd}, ${size} bytes`);
  return new SharedMapping(libc, at, rangeSize, koffi.view(at, size));
}

/** What is mapped of a file is whole pages: of huge ones (hugetlbfs, MFD_HUGETLB) the size of one, else that of a page. */
export function memoryPageSize(fd: number): number {
  const { libc } = ffi('fstatfs');
  // A file system of another process (FUSE) need not answer the question below; none of its files answers this one.
  if (libc.fcntl(fd, F_GET_SEALS, 'int', 0) < 0) return PAGE_SIZE;
  const words = new BigInt64Array(STATFS_SIZE / 8);
  while (libc.fstatfs(fd, new Uint8Array(words.buffer)) < 0) {
    if (lastErrno() !== EINTR) throw lastError('fstatfs', `fd ${fd}`);
  }
  return words[0] === HUGETLBFS_MAGIC ? Number(words[1]) : PAGE_SIZE;
}

/** A descriptor of zeros, or -1 where none can be opened. */
function emptyMemory(size: number): number {
  try {
    return memfdCreate('revoked', size, { seal: false });
  } catch (error) {
    if (error instanceof LinuxError) return -1;
    throw error;
  }
}

function assertKept(libc: LibC, fd: number, pageSize: number): void {
  const seals = libc.fcntl(fd, F_GET_SEALS, 'int', 0);
  if (seals < 0 || (seals & F_SEAL_SHRINK) === 0) {
    const detail = `fd ${fd} lacks F_SEAL_SHRINK: its owner could shrink it under the mapping`;
    throw new LinuxError('EPERM', 'mmap', detail);
  }
  // A hole gives pages back to the pool, sealed or not, and a touch of it is fatal when the pool has none (mm/hugetlb.c).
  if (pageSize !== PAGE_SIZE) {
    const detail = `fd ${fd} is huge pages: its owner could take them back under the mapping`;
    throw new LinuxError('EPERM', 'mmap', detail);
  }
}
