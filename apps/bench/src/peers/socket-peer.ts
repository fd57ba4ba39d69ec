import { once } from 'node:events';
import { type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { type Child, startChild } from '../child.ts';
import { type Contender, type RunResult, elapsedNs } from '../contender.ts';
import { MessageReader, MessageWriter } from './messages.ts';

export interface SocketPeerOptions {
  readonly name: string;
  /** Messages sent and not answered. */
  readonly window: number;
  /** All messages that may be sent go into one write, instead of a write each. */
  readonly isBatched: boolean;
}

/** A Unix socket to a process that answers each message by one. */
export interface SocketEcho extends AsyncDisposable {
  /** Messages of `MESSAGE_SIZE` bytes, numbered and checked on both sides, through `node:net`. */
  contender(options: SocketPeerOptions): Contender;
}

let socketCount = 0;

/** `folder` holds the socket while it is being connected. */
export async function startSocketEcho(folder: string): Promise<SocketEcho> {
  const { socket, child } = await connectChild(folder, 'peers/socket-echo-process');
  const conversation = new Conversation(socket);
  return {
    contender: ({ name, window, isBatched }) => ({
      name,
      isPeer: true,
      pids: [child.pid],
      run: (count) => conversation.exchange(count, window, isBatched),
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
): Promise<{ readonly socket: Socket; readonly child: Child }> {
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

/** One conversation for the life of the socket, in runs. */
class Conversation {
  readonly #socket: Socket;
  readonly #reader = new MessageReader();
  readonly #writer = new MessageWriter();

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  async exchange(count: number, window: number, isBatched: boolean): Promise<RunResult> {
    const socket = this.#socket;
    const done = Promise.withResolvers<void>();
    let sent = 0;
    let answered = 0;
    const send = (): void => {
      const room = Math.min(window - (sent - answered), count - sent);
      if (room === 0) return;
      sent += room;
      if (isBatched) socket.write(this.#writer.write(room));
      else for (let i = 0; i < room; i += 1) socket.write(this.#writer.write(1));
    };
    const onData = (bytes: Uint8Array): void => {
      answered += this.#reader.read(bytes);
      if (answered === count) done.resolve();
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
}
