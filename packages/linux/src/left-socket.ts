import { rmSync } from 'node:fs';
import { closeFd } from './fd.ts';
import { connectUnix, peerCredentials, unixSocket } from './socket-calls.ts';

/**
 * Removes the socket at `path` if it is this process that listens there: for what a worker thread left that ended without closing its
 * `UnixStreamServer`. The attempt counts as a client that leaves at once. Returns whether it was. Throws `LinuxError` when no socket
 * can be made to try it with.
 */
export function removeLeftSocket(path: string): boolean {
  const probe = unixSocket();
  try {
    // unix(7): who called listen(2).
    const isOurs = connectUnix(probe, path) === 0 && peerCredentials(probe).pid === process.pid;
    // As long as somebody listens nobody else takes the path.
    if (isOurs) rmSync(path, { force: true });
    return isOurs;
  } finally {
    closeFd(probe);
  }
}
