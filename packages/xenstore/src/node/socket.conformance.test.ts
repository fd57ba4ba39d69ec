import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ProfileName, describeXenstore } from '../conformance.ts';
import { createXenstore } from '../create-xenstore.ts';
import { XENSTORE_PROFILES } from '../profiles.ts';
import { listenXenstore } from './listen.ts';
import { SocketStream } from './socket-stream.ts';

for (const profile of XENSTORE_PROFILES.values()) {
  describeXenstore({
    name: `Unix sockets, ${profile.name}`,
    profile: profile.name as ProfileName,
    capabilities: { guests: false },
    create: async () => {
      const directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstore-'));
      const xenstore = createXenstore({ profile, schedule: (run) => void setImmediate(run) });
      const listener = await listenXenstore({ path: join(directory, 'socket'), server: xenstore.server });
      return {
        connect: () =>
          new Promise((resolve, reject) => {
            const socket = connect(listener.path, () => resolve(new SocketStream(socket)));
            socket.once('error', reject);
          }),
        close: async () => {
          while (xenstore.statistics().connections.length > 0)
            await new Promise((turn) => setImmediate(turn));
          xenstore.assertQuiescent();
          await listener.close();
          rmSync(directory, { recursive: true });
        },
      };
    },
  });
}
