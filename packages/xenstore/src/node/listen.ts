import { chmodSync, lstatSync, statSync, unlinkSync } from 'node:fs';
import { type Server, connect, createServer } from 'node:net';
import { dirname } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import type { XenstoreServer } from '../server.ts';
import { defaultSocketPath } from './socket-path.ts';
import { SocketStream } from './socket-stream.ts';

export interface ListenXenstoreOptions {
  readonly server: XenstoreServer;
  /** Default: `defaultSocketPath()`. Its directory must exist. */
  readonly path?: string;
}

export interface XenstoreListener {
  readonly path: string;
  /** Accepts nobody any more and removes the socket. Connections go on living. Idempotent. */
  close(): Promise<void>;
}

/** Only the owner may connect: whoever can is privileged. */
const SOCKET_MODE = 0o600;

/**
 * Accepts socket clients for `server`; each counts as domain 0. A socket left behind by a dead daemon is replaced;
 * rejects with EADDRINUSE (`code`) if somebody still listens, or if something else than a socket has the name,
 * and with ENOENT if its directory does not exist.
 */
export async function listenXenstore(options: ListenXenstoreOptions): Promise<XenstoreListener> {
  const path = options.path ?? defaultSocketPath();
  statSync(dirname(path)); // listen() would say EACCES for a missing directory
  await removeStaleSocket(path);
  const listener = createServer((socket) => {
    options.server.accept(new SocketStream(socket), { domid: 0, privileged: true }, 'socket');
  });
  await listenPrivately(listener, path);
  return {
    path,
    close: () => {
      if (listener.listening) listener.close(); // removes the socket at once; connections may take their time
      return Promise.resolve();
    },
  };
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw addressInUse(path, 'it is not a socket');
  if (await isListening(path)) throw addressInUse(path, 'another daemon listens there');
  if (lstatSync(path, { throwIfNoEntry: false })?.ino === found.ino) unlinkSync(path);
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(error);
    });
  });
}

/** The socket never exists with wider permissions; worker threads cannot set the mask and narrow it right after. */
function listenPrivately(listener: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    const mask = isMainThread ? process.umask(0o777 & ~SOCKET_MODE) : undefined;
    try {
      listener.listen(path, () => {
        listener.off('error', reject);
        resolve();
      });
    } finally {
      if (mask !== undefined) process.umask(mask);
    }
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) chmodSync(path, SOCKET_MODE);
  });
}

function addressInUse(path: string, why: string): Error {
  return Object.assign(new Error(`Cannot listen on ${path}: ${why}`), { code: 'EADDRINUSE', path });
}
