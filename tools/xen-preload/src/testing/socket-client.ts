import { once } from 'node:events';
import { type Socket, createConnection } from 'node:net';
import type { RealDomain } from '../contract.ts';
import { XS_INTRODUCE } from '@virtlab/abi/xs-wire';
import { XenstoreMessages } from './xenstore-messages.ts';

/** A tool in domain 0. */
export class SocketClient {
  readonly #socket: Socket;
  readonly messages: XenstoreMessages;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.messages = new XenstoreMessages((bytes) => void socket.write(bytes));
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.messages.receive(chunk));
  }

  static async connect(path: string): Promise<SocketClient> {
    const socket = createConnection(path);
    await once(socket, 'connect');
    return new SocketClient(socket);
  }

  request(type: number, ...words: readonly string[]): Promise<string> {
    return this.messages.request(type, ...words);
  }

  introduce(domain: Pick<RealDomain, 'domid' | 'gfn' | 'port'>): Promise<string> {
    return this.request(XS_INTRODUCE, String(domain.domid), String(domain.gfn), String(domain.port));
  }

  close(): void {
    this.#socket.destroy();
  }
}
