import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { closeFd } from '../fd.ts';
import { ffi, lastError } from '../ffi.ts';
import {
  F_ADD_SEALS,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  LOCK_EX,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
} from '../kernel-abi.ts';
import { memoryPageSize } from '../shared-memory.ts';

/** linux/memfd.h */
const MFD_HUGETLB = 0x4;
const POOL = '/proc/sys/vm/nr_hugepages';

function poolCount(): number {
  return Number(readFileSync(POOL, 'utf8'));
}

/** A few huge pages more in the machine's pool until disposed, and memory of them. */
export class HugePages implements Disposable {
  /** Bytes of one. */
  readonly size: number;
  readonly #lockFd: number;
  readonly #countBefore: number;

  /** Waits for whoever else has some. Throws when the machine has no room for them, or this process may not ask. */
  constructor(count: number) {
    this.#lockFd = openSync(POOL, 'r');
    if (ffi('flock').libc.flock(this.#lockFd, LOCK_EX) < 0) throw lastError('flock', POOL);
    this.#countBefore = poolCount();
    try {
      writeFileSync(POOL, String(this.#countBefore + count));
      if (poolCount() < this.#countBefore + count) throw new Error(`there is no room for ${count} of them`);
      const fd = hugeMemory();
      this.size = memoryPageSize(fd);
      closeFd(fd);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Why there are none here, or undefined. The pool is everybody's: only a run that requires peers changes it for a moment. */
  static unavailable(): string | undefined {
    if (process.env['VIRTLAB_REQUIRE_PEERS'] !== '1')
      return 'the pool is changed with VIRTLAB_REQUIRE_PEERS=1 only';
    try {
      new HugePages(1)[Symbol.dispose]();
      return undefined;
    } catch (error) {
      return `no huge pages can be had: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** A memfd of so many of them, sealed as `memfdCreate` does it. The caller owns it. */
  memfd(count: number): number {
    const fd = hugeMemory();
    const { libc } = ffi('ftruncate');
    if (libc.ftruncate(fd, count * this.size) < 0) throw lastError('ftruncate');
    const seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (libc.fcntl(fd, F_ADD_SEALS, 'int', seals) < 0) throw lastError('fcntl(F_ADD_SEALS)');
    return fd;
  }

  [Symbol.dispose](): void {
    try {
      if (poolCount() !== this.#countBefore) writeFileSync(POOL, String(this.#countBefore));
    } finally {
      closeFd(this.#lockFd);
    }
  }
}

function hugeMemory(): number {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB;
  const fd = ffi('memfd_create').libc.memfd_create('huge', flags);
  if (fd < 0) throw lastError('memfd_create(MFD_HUGETLB)');
  return fd;
}
