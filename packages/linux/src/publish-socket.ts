import { closeSync, constants, linkSync, lstatSync, openSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { closeFd } from './fd.ts';
import { tryLockFile } from './file-space.ts';
import { ECONNREFUSED, ENOENT } from './kernel-abi.ts';
import { LinuxError } from './linux-error.ts';
import { connectUnix, unixSocket } from './socket-calls.ts';

/** What other processes see of `publish`, a step each; for a test to put them into any order. */
export interface PublishSteps {
  /** Names our socket; false when something is there. */
  link(): boolean;
  /** Waits until nobody else holds the lock of this path. It goes with the process. */
  lock(): void;
  unlock(): void;
  /** What is there: `dead` is a socket that nobody listens at, now and for ever. */
  probe(): 'nothing' | 'dead' | 'alive';
  /** Names our socket, whatever is there. */
  replace(): void;
}

/**
 * Gives a listening socket its name, over a dead socket if one is there; false when somebody listens there.
 *
 * No server that listens loses its name by this. Only `replace` takes a name away, and only from what `probe` found dead. Between
 * the two the name stays with the dead: another `replace` is kept out by the lock, `link` finds the name in use, and a server that
 * removes its own name still listens then (`UnixStreamServer.close`), so it would have been found alive. Where nothing was found,
 * somebody else may be there by now: that is for `link` to say.
 */
export function publish(steps: PublishSteps): boolean {
  for (;;) {
    if (steps.link()) return true;
    steps.lock();
    try {
      const found = steps.probe();
      if (found === 'alive') return false;
      if (found === 'dead') {
        steps.replace();
        return true;
      }
    } finally {
      steps.unlock();
    }
  }
}

/** Far more than the few system calls that the lock is held for. */
const LOCK_WAIT_MS = 1000;
const LOCK_RETRY_MS = 1;

/** Makes `path` the name of the listening socket that is at `temporary`. Throws as `UnixStreamServer.listen`. */
export function publishSocket(temporary: string, path: string): void {
  const folder = dirname(path);
  let lockFd = -1;
  const isPublished = publish({
    link: () => linkUnlessThere(temporary, path),
    lock: () => void (lockFd = lockFolder(folder)),
    unlock: () => closeSync(lockFd),
    probe: () => probeSocket(path),
    replace: () => renameSync(temporary, path),
  });
  if (!isPublished) throw new LinuxError('EADDRINUSE', 'listen', `somebody listens at ${path}`);
}

function linkUnlessThere(temporary: string, path: string): boolean {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

/** The directory's own lock: there is nothing to leave behind or to remove. The descriptor that holds it. */
function lockFolder(folder: string): number {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const idle = new Int32Array(new SharedArrayBuffer(4));
    const deadline = performance.now() + LOCK_WAIT_MS;
    while (!tryLockFile(fd, 'exclusive')) {
      if (performance.now() > deadline)
        throw new LinuxError('EAGAIN', 'flock', `somebody keeps ${folder} locked`);
      Atomics.wait(idle, 0, 0, LOCK_RETRY_MS);
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function probeSocket(path: string): 'nothing' | 'dead' | 'alive' {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return 'nothing';
  if (!found.isSocket()) throw new LinuxError('EADDRINUSE', 'listen', `${path} is no socket`);
  const probe = unixSocket();
  try {
    const errno = connectUnix(probe, path);
    if (errno === ENOENT) return 'nothing';
    return errno === ECONNREFUSED ? 'dead' : 'alive';
  } finally {
    closeFd(probe);
  }
}
