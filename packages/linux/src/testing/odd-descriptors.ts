import { ffi, lastError } from '../ffi.ts';
import { EFD_CLOEXEC, EFD_NONBLOCK, F_GETFL, F_SETFL, O_NONBLOCK } from '../kernel-abi.ts';

/** linux/eventfd.h */
const EFD_SEMAPHORE = 0x1;

/** An eventfd of which each read takes 1. The caller owns it. */
export function semaphoreFd(): number {
  const fd = ffi('eventfd').libc.eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw lastError('eventfd');
  return fd;
}

/** What another process may do to a descriptor that it has sent: takes O_NONBLOCK off the open file. */
export function makeBlocking(fd: number): void {
  const { libc } = ffi('fcntl');
  const flags = libc.fcntl(fd, F_GETFL, 'int', 0);
  if (flags < 0 || libc.fcntl(fd, F_SETFL, 'int', flags & ~O_NONBLOCK) < 0)
    throw lastError('fcntl', `fd ${fd}`);
}
