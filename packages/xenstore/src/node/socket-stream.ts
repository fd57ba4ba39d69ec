import type { Socket } from 'node:net';
import type { ByteStream, ByteStreamHandler } from '../contract.ts';

/**
 * A connected socket as a byte stream. What is sent within one turn of the event loop leaves in one system call.
 * `send` takes whole messages until the socket's own buffer is full; what is then left stays with the sender, which
 * can still merge it.
 */
export class SocketStream implements ByteStream {
  readonly #socket: Socket;
  #isCorked = false;
  #isFull = false;
  #failure: string | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  attach(handler: ByteStreamHandler): void {
    const socket = this.#socket;
    socket.on('data', (bytes: Uint8Array) => handler.onData(bytes));
    socket.on('drain', () => {
      this.#isFull = false;
      handler.onDrain();
    });
    socket.on('error', (error) => {
      this.#failure = error.message;
    });
    socket.on('close', () => handler.onClose(this.#failure));
  }

  send(bytes: Uint8Array): number {
    const socket = this.#socket;
    if (socket.destroyed || !socket.writable) return bytes.length;
    if (this.#isFull) return 0;
    if (!this.#isCorked) {
      this.#isCorked = true;
      socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        socket.uncork();
      });
    }
    this.#isFull = !socket.write(bytes);
    return bytes.length;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** What was taken is still delivered, unless the peer broke the protocol or does not read. */
  close(failure?: 'protocol'): void {
    if (failure !== undefined || this.#isFull) this.#socket.destroy();
    else this.#socket.destroySoon();
  }
}
