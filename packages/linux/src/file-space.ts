import { ffi, lastErrno, lastError } from './ffi.ts';
import {
  EAGAIN,
  EINTR,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
} from './kernel-abi.ts';

/**
 * Gives the space of `[offset, offset + size)` of a file back (FALLOC_FL_PUNCH_HOLE); it reads as zero afterwards. Parts
 * of file system blocks at the ends are zeroed. The size of the file stays. Works on block devices that can.
 *
 * Throws `LinuxError`: `EOPNOTSUPP` where the file system cannot, and what fallocate(2) says.
 */
export function punchHole(fd: number, offset: number, size: number): void {
  fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
}

/**
 * Makes `[offset, offset + size)` of a file read as zero and keeps its space allocated where the file system can
 * (FALLOC_FL_ZERO_RANGE). The size of the file stays. Throws as `punchHole`.
 */
export function zeroRange(fd: number, offset: number, size: number): void {
  fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, size);
}

/**
 * flock(2) without waiting: many holders may be `shared`, one `exclusive`. Advisory; it belongs to the open file, so it goes
 * with its last descriptor or the process. False when somebody else holds it. Throws `LinuxError` for anything else.
 */
export function tryLockFile(fd: number, mode: 'shared' | 'exclusive'): boolean {
  const { libc } = ffi('flock');
  const operation = (mode === 'shared' ? LOCK_SH : LOCK_EX) | LOCK_NB;
  while (libc.flock(fd, operation) < 0) {
    const errno = lastErrno();
    if (errno === EAGAIN) return false;
    if (errno !== EINTR) throw lastError('flock', `fd ${fd}`);
  }
  return true;
}

function fallocate(fd: number, mode: number, offset: number, size: number): void {
  const { libc } = ffi('fallocate');
  while (libc.fallocate(fd, mode, offset, size) < 0) {
    if (lastErrno() !== EINTR) throw lastError('fallocate', `fd ${fd}, ${size} bytes at ${offset}`);
  }
}
