import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ByteStream, XenstoreProfile } from '@virtlab/xenstore';
import { SocketStream, listenXenstore } from '@virtlab/xenstore/node';
import type { Subject } from './subject.ts';
import { startServer } from './virtlab-daemon.ts';

/** Our daemon on a real socket. */
export function virtlabSocketSubject(profile: XenstoreProfile): Subject {
  return {
    name: `virtlab ${profile.name}, socket`,
    start: async () => {
      const directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstore-conformance-'));
      const { server, machine } = startServer(profile, (turn) => void setImmediate(turn));
      const listener = await listenXenstore({ server, path: join(directory, 'socket') });
      return {
        ...machine.face(),
        messages: '',
        connectSocket: () => connectSocket(listener.path),
        close: async () => {
          await listener.close();
          server.close();
          rmSync(directory, { recursive: true });
        },
      };
    },
  };
}

export function connectSocket(path: string): Promise<ByteStream> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(new SocketStream(socket));
    });
  });
}
