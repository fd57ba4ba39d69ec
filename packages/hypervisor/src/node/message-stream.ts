import { type UnixStream, closeFd } from '@virtlab/linux';
import { Packr, Unpackr } from 'msgpackr';

/** Largest message; a peer that announces a larger one is cut off. */
export const MESSAGE_SIZE_MAX: number = 1 << 20;
const LENGTH_SIZE = 4;

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false });

export interface MessageHandler {
  /** One decoded message (anything MessagePack can say) and the descriptors that arrived so far, oldest first; take what the message owns. */
  onMessage(message: unknown, fds: number[]): void;
  onEnd(reason: string): void;
}

/**
 * Messages on a Unix stream: u32 little-endian length, then MessagePack. The length prefix bounds what is held and
 * spares parsing a value again at each chunk. Owns the stream.
 */
export class MessageStream {
  readonly #stream: UnixStream;
  readonly #handler: MessageHandler;
  readonly #fds: number[] = [];
  #pending: Uint8Array = new Uint8Array(0);
  #ended = false;

  constructor(stream: UnixStream, handler: MessageHandler) {
    this.#stream = stream;
    this.#handler = handler;
    stream.onClose(({ by, error }) =>
      this.#end(error?.message ?? (by === 'peer' ? 'The peer closed' : 'Closed')),
    );
    stream.onData((bytes, fds) => {
      this.#fds.push(...fds);
      this.#receive(bytes);
    });
  }

  /** Descriptors stay the caller's. Throws `LinuxError` when the peer is gone or does not read. */
  send(message: unknown, fds: readonly number[] = []): void {
    const body = packr.pack(message);
    if (body.length > MESSAGE_SIZE_MAX)
      throw new RangeError(`A message of ${body.length} bytes is over ${MESSAGE_SIZE_MAX}`);
    const frame = new Uint8Array(LENGTH_SIZE + body.length);
    new DataView(frame.buffer).setUint32(0, body.length, true);
    frame.set(body, LENGTH_SIZE);
    this.#stream.send(frame, fds);
  }

  close(): void {
    this.#stream.close();
    this.#end('Closed');
  }

  unref(): void {
    this.#stream.unref();
  }

  #receive(bytes: Uint8Array): void {
    this.#pending = this.#pending.length === 0 ? bytes : concat(this.#pending, bytes);
    while (!this.#ended && this.#pending.length >= LENGTH_SIZE) {
      const size = new DataView(this.#pending.buffer, this.#pending.byteOffset).getUint32(0, true);
      if (size > MESSAGE_SIZE_MAX) return this.#fail(`A message of ${size} bytes was announced`);
      if (this.#pending.length < LENGTH_SIZE + size) return;
      const body = this.#pending.subarray(LENGTH_SIZE, LENGTH_SIZE + size);
      this.#pending = this.#pending.subarray(LENGTH_SIZE + size);
      let message: unknown;
      try {
        message = unpackr.unpack(body);
      } catch (error) {
        return this.#fail(`A message is not MessagePack: ${String(error)}`);
      }
      this.#handler.onMessage(message, this.#fds);
    }
  }

  #fail(reason: string): void {
    this.#stream.close();
    this.#end(reason);
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const fd of this.#fds.splice(0)) closeFd(fd);
    this.#handler.onEnd(reason);
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
