import { readlinkSync } from 'node:fs';

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

/** Whether a descriptor is a socket, of whatever kind. */
export function isSocket(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
  } catch {
    return false;
  }
}
