import { readFileSync, readlinkSync } from 'node:fs';

/**
 * Whether a descriptor is an eventfd(2). A peer may send any other: a pipe whose end it closes is readable for ever, a
 * terminal blocks.
 */
export function isEventFd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}

/**
 * Whether each read of an eventfd takes 1 instead of all (EFD_SEMAPHORE): one write of the peer could then wake as often as it
 * likes. False before Linux 6.5, which does not tell; to write and read would take kicks of whoever else waits for them.
 */
export function isSemaphore(fd: number): boolean {
  try {
    return /^eventfd-semaphore:\s*1$/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));
  } catch {
    return false;
  }
}

/** Whether a descriptor is a socket, of whatever kind. */
export function isSocket(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
  } catch {
    return false;
  }
}
