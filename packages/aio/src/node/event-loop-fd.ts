import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { EventFd, watchReadable } from '@virtlab/linux';

const DESCRIPTORS = '/proc/self/fd';
const EPOLL = 'anon_inode:[eventpoll]';

/**
 * The descriptor of this thread's event loop (libuv's epoll), readable while there is something for the loop to do: messages of
 * other threads, ends of work on the thread pool, sockets. It stays Node's. Undefined where it cannot be found.
 *
 * Node tells nobody which one it is; proc(5) tells which epoll has a descriptor that this thread watches.
 */
export async function eventLoopFd(): Promise<number | undefined> {
  using probe = EventFd.create();
  using _watch = watchReadable(probe.fd, () => void probe.read());
  // The loop takes a new descriptor on when it polls; after the second task it has polled at least once.
  for (let task = 0; task < 2; task += 1) await new Promise((resolve) => void setImmediate(resolve));
  const target = new RegExp(`^tfd:\\s*${probe.fd}\\s`, 'm');
  return readdirSync(DESCRIPTORS)
    .map(Number)
    .find((fd) => isEpollOf(fd, target));
}

function isEpollOf(fd: number, target: RegExp): boolean {
  try {
    return (
      readlinkSync(`${DESCRIPTORS}/${fd}`) === EPOLL &&
      target.test(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))
    );
  } catch {
    return false; // closed meanwhile, by another thread
  }
}
