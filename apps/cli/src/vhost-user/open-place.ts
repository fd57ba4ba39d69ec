import { readFileSync, readlinkSync } from 'node:fs';
import type { UnixStream } from '@virtlab/linux';
import { type VhostUserBackend, listenVhostUser, vhostUserStream } from '@virtlab/vhost-user';
import type { Place } from './daemon-plan.ts';

/**
 * Serves one VhostUserFrontend after the other at a place; `onLast` is called when one that was inherited is over. Returns what
 * stops listening, ends the connection, and resolves when all is given back. Throws `LinuxError`: `EADDRINUSE` where somebody
 * listens, `EACCES` and the like where no socket can be made.
 */
export function openPlace(
  place: Place,
  serve: (stream: UnixStream) => VhostUserBackend,
  onLast: (() => void) | undefined,
): () => Promise<unknown> {
  if ('fd' in place && !isListening(place.fd)) {
    const backend = serve(vhostUserStream(place.fd));
    void backend.ended.then(() => onLast?.());
    return () => backend.close();
  }
  const where = 'fd' in place ? { fd: place.fd } : { path: place.socketPath };
  const listener = listenVhostUser({ ...where, serve });
  return () => listener.close();
}

const ACCEPTS_CONNECTIONS = 0x1_0000; // __SO_ACCEPTCON, net/unix/af_unix.c
const FLAGS_COLUMN = 3;
const INODE_COLUMN = 6;

/** Whether an inherited socket is one to accept connections from (proc(5), /proc/net/unix). */
function isListening(fd: number): boolean {
  const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  const columns = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .find((found) => found[INODE_COLUMN] === inode);
  return columns !== undefined && (Number(`0x${columns[FLAGS_COLUMN]}`) & ACCEPTS_CONNECTIONS) !== 0;
}
