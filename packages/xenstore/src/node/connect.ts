import { connect } from 'node:net';
import { XenstoreClient } from '../client.ts';
import { clientSocketPath } from './runtime-directory.ts';
import { SocketStream } from './socket-stream.ts';

export interface ConnectXenstoreOptions {
  /** Gives up connecting, rejecting with the signal's reason; later it does nothing. */
  readonly signal?: AbortSignal;
}

/**
 * A client of the daemon that listens at `path`; default: `clientSocketPath()`. Rejects with the socket's error
 * (`code` ENOENT, ECONNREFUSED…).
 */
export function connectXenstore(
  path: string = clientSocketPath(),
  { signal }: ConnectXenstoreOptions = {},
): Promise<XenstoreClient> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const socket = connect(path);
    const onAbort = (): void => {
      socket.destroy();
      reject(signal?.reason as Error);
    };
    const onError = (error: Error): void => {
      signal?.removeEventListener('abort', onAbort);
      reject(error);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      signal?.removeEventListener('abort', onAbort);
      resolve(new XenstoreClient(new SocketStream(socket)));
    });
  });
}
