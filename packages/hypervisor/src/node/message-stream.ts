import { type UnixStream, closeFd } from '@virtlab/linux';
import { Packr, Unpackr } from 'msgpackr';

/** Largest message; a peer that announces a larger one is cut off. */
export const MESSAGE_SIZE_MAX: number = 1 << 20;
const LENGTH_SIZE = 4;
const BUFFER_SIZE_MIN = 4096;

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
  /** What has not made a message yet, from `#from` to `#to`. */
  #buffer: Uint8Array = new Uint8Array(BUFFER_SIZE_MIN);
  #from = 0;
  #to = 0;
  #ended = false;

  constructor(stream: UnixStream, handler: MessageHandler) {
    this.#stream = stream;
    this.#handler = handler;
    stream.onClose(({ by, error }) =>
      this.#end(error?.message ?? (by === 'peer' ? this.#howPeerClosed() : 'Closed')),
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
    this.#append(bytes);
    while (!this.#ended && this.#to - this.#from >= LENGTH_SIZE) {
      const size = new DataView(this.#buffer.buffer).getUint32(this.#from, true);
      if (size > MESSAGE_SIZE_MAX) return this.#fail(`A message of ${size} bytes was announced`);
      const start = this.#from + LENGTH_SIZE;
      if (this.#to < start + size) return;
      this.#from = start + size;
      let message: unknown;
      try {
        message = unpackr.unpack(this.#buffer.slice(start, start + size));
      } catch (error) {
        return this.#fail(`A message is not MessagePack: ${String(error)}`);
      }
      this.#handler.onMessage(message, this.#fds);
    }
  }

  /** Moves what is held to the front, and doubles the room when there is too little: a byte is moved a few times at most. */
  #append(bytes: Uint8Array): void {
    const held = this.#to - this.#from;
    if (this.#to + bytes.length > this.#buffer.length) {
      const isRoomy = held + bytes.length <= this.#buffer.length / 2;
      const size = isRoomy ? this.#buffer.length : 2 * Math.max(this.#buffer.length, held + bytes.length);
      const next = isRoomy ? this.#buffer : new Uint8Array(size);
      next.set(this.#buffer.subarray(this.#from, this.#to));
      this.#buffer = next;
      this.#from = 0;
      this.#to = held;
    }
    this.#buffer.set(bytes, this.#to);
    this.#to += bytes.length;
  }

  #howPeerClosed(): string {
    const missing = this.#to - this.#from;
    return missing === 0
      ? 'The peer closed'
      : `The peer closed in the middle of a message, ${missing} bytes into it`;
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
