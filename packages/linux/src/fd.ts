import { readdirSync } from 'node:fs';
import { ffi, lastError } from './ffi.ts';
import { F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, O_NONBLOCK } from './kernel-abi.ts';

/** Closes a descriptor. Throws `LinuxError` `EBADF` when it is not open: closing twice is a bug. */
export function closeFd(fd: number): void {
  if (ffi('close').libc.close(fd) < 0) throw lastError('close', `fd ${fd}`);
}

/** A second descriptor of the same open file, close-on-exec. The caller owns it. */
export function dupFd(fd: number): number {
  const copy = ffi('fcntl').libc.fcntl(fd, F_DUPFD_CLOEXEC, 'int', 0);
  if (copy < 0) throw lastError('fcntl(F_DUPFD_CLOEXEC)', `fd ${fd}`);
  return copy;
}

/**
 * Makes reads and writes return EAGAIN instead of blocking. The flag belongs to the open file: duplicates
 * share it.
 */
export function setNonblocking(fd: number): void {
  const { libc } = ffi('fcntl');
  const flags = libc.fcntl(fd, F_GETFL, 'int', 0);
  if (flags < 0) throw lastError('fcntl(F_GETFL)', `fd ${fd}`);
  if ((flags & O_NONBLOCK) === 0 && libc.fcntl(fd, F_SETFL, 'int', flags | O_NONBLOCK) < 0) {
    throw lastError('fcntl(F_SETFL)', `fd ${fd}`);
  }
}

/**
 * Open descriptors of this process (/proc/self/fd), for leak tests. The one that reads the directory is not
 * counted.
 */
export function openFdCount(): number {
  return readdirSync('/proc/self/fd').length - 1;
}
