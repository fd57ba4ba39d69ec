import { connect } from 'node:net';
import { XenstoreClient } from '../client.ts';
import { defaultSocketPath } from './socket-path.ts';
import { SocketStream } from './socket-stream.ts';

/** A client of the daemon that listens at `path`. Rejects with the socket's error (`code` ENOENT, ECONNREFUSED…). */
export function connectXenstore(path: string = defaultSocketPath()): Promise<XenstoreClient> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(new XenstoreClient(new SocketStream(socket)));
    });
  });
}
