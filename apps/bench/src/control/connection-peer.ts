import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { startChild } from '../child.ts';
import { type Contender, type RunResult, elapsedNs } from '../contender.ts';

/** A process that takes connections on a Unix socket. */
export interface ConnectionPeer extends AsyncDisposable {
  /** A connection opened, 4 bytes there and back, and closed. */
  readonly contender: Contender;
}

export async function startConnectionPeer(folder: string): Promise<ConnectionPeer> {
  const path = join(folder, 'connections.sock');
  const child = startChild('control/accept-process', [path]);
  await child.ask({});
  const run = async (count: number): Promise<RunResult> => {
    const start = performance.now();
    for (let done = 0; done < count; done += 1) await converse(path);
    return { operationCount: count, elapsedNs: elapsedNs(start) };
  };
  return {
    contender: { name: 'Unix socket', isPeer: true, pids: [child.pid], run },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

async function converse(path: string): Promise<void> {
  const socket = connect(path);
  await once(socket, 'connect');
  socket.write('ping');
  await once(socket, 'data');
  socket.end();
  await once(socket, 'close');
}
