import type { Socket } from 'node:net';
import type { ByteStream, ByteStreamHandler } from '../contract.ts';

const SLAB_SIZE = 16 * 1024;
const SPARE_COUNT_MAX = 16;

/** Memory that messages are gathered in, between sockets. */
const spareSlabs: Buffer[] = [];

/**
 * A connected socket as a byte stream. What is sent from within `onData`, or else within one turn of the event loop,
 * leaves in one system call: messages are copied into one piece of memory first, since a vector of small ones costs
 * more than all the rest. `send` takes whole messages until the socket's own buffer is full; what is then left stays
 * with the sender, which can still merge it.
 */
export class SocketStream implements ByteStream {
  readonly #socket: Socket;
  readonly #flushLater = (): void => {
    this.#isFlushDue = false;
    this.#flush();
  };
  /** Gathered and not yet given to the socket: the first `#slabUsed` bytes. */
  #slab: Buffer | undefined;
  #slabUsed = 0;
  #isFlushDue = false;
  #isReading = false;
  #isFull = false;
  #failure: string | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  attach(handler: ByteStreamHandler): void {
    const socket = this.#socket;
    socket.on('data', (bytes: Uint8Array) => {
      this.#isReading = true;
      try {
        handler.onData(bytes);
      } finally {
        this.#isReading = false;
        this.#flush();
      }
    });
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
    if (this.#slabUsed + bytes.length > SLAB_SIZE) {
      this.#flush();
      if (this.#isFull) return 0;
      if (bytes.length > SLAB_SIZE) {
        this.#isFull = !socket.write(bytes);
        return bytes.length;
      }
    }
    this.#slab ??= spareSlabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_SIZE);
    this.#slab.set(bytes, this.#slabUsed);
    this.#slabUsed += bytes.length;
    if (!this.#isReading && !this.#isFlushDue) {
      this.#isFlushDue = true;
      process.nextTick(this.#flushLater);
    }
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
    this.#flush();
    if (failure !== undefined || this.#isFull) this.#socket.destroy();
    else this.#socket.destroySoon();
  }

  #flush(): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    const socket = this.#socket;
    const used = this.#slabUsed;
    this.#slab = undefined;
    this.#slabUsed = 0;
    if (socket.destroyed || !socket.writable) return;
    this.#isFull = !socket.write(slab.subarray(0, used));
    // Nothing left in the socket's queue: the kernel has a copy of all of it.
    if (socket.writableLength === 0 && spareSlabs.length < SPARE_COUNT_MAX) spareSlabs.push(slab);
  }
}
