import { once } from 'node:events';
import { type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { startChild } from '../child.ts';
import { type Contender, type RunResult, elapsedNs } from '../contender.ts';
import { MESSAGE_SIZE } from './messages.ts';

export interface SocketPeerOptions {
  readonly name: string;
  /** Messages sent and not answered. */
  readonly window: number;
  /** All messages that may be sent go into one write, instead of a write each. */
  readonly isBatched: boolean;
}

/** A stream of Unix sockets to a process that sends back what comes. */
export interface SocketEcho extends AsyncDisposable {
  /** Messages of `MESSAGE_SIZE` bytes through `node:net`, each answered by one. */
  contender(options: SocketPeerOptions): Contender;
}

let socketCount = 0;

/** `folder` holds the socket while it is being connected. */
export async function startSocketEcho(folder: string): Promise<SocketEcho> {
  const { socket, child } = await connectChild(folder, 'peers/socket-echo-process');
  return {
    contender: ({ name, window, isBatched }) => ({
      name,
      isPeer: true,
      run: (count) => exchange(socket, count, window, isBatched),
    }),
    [Symbol.asyncDispose]: async () => {
      socket.destroy();
      await child[Symbol.asyncDispose]();
    },
  };
}

/** Starts a module that connects to the path which is its argument. */
export async function connectChild(
  folder: string,
  path: string,
): Promise<{ readonly socket: Socket; readonly child: AsyncDisposable }> {
  socketCount += 1;
  const at = join(folder, `peer-${socketCount}.sock`);
  const server = createServer();
  server.listen(at);
  await once(server, 'listening');
  const child = startChild(path, [at]);
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  return { socket, child };
}

async function exchange(
  socket: Socket,
  count: number,
  window: number,
  isBatched: boolean,
): Promise<RunResult> {
  const block = new Uint8Array(window * MESSAGE_SIZE);
  const message = block.subarray(0, MESSAGE_SIZE);
  const done = Promise.withResolvers<void>();
  let sent = 0;
  let answeredSize = 0;
  const send = (): void => {
    const answered = Math.floor(answeredSize / MESSAGE_SIZE);
    const room = Math.min(window - (sent - answered), count - sent);
    if (room === 0) return;
    sent += room;
    if (isBatched) socket.write(block.subarray(0, room * MESSAGE_SIZE));
    else for (let i = 0; i < room; i += 1) socket.write(message);
  };
  const onData = (bytes: Uint8Array): void => {
    answeredSize += bytes.length;
    if (answeredSize === count * MESSAGE_SIZE) done.resolve();
    else send();
  };
  const onClose = (): void => done.reject(new Error('The peer closed its socket'));
  socket.on('data', onData);
  socket.on('close', onClose);
  const start = performance.now();
  send();
  try {
    await done.promise;
    return { operationCount: count, elapsedNs: elapsedNs(start) };
  } finally {
    socket.off('data', onData);
    socket.off('close', onClose);
  }
}
