import { XSD_SOCKMSG, XS_ERROR, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';

/** A client of a daemon, over whichever medium: as little of one as the tests of starting daemons need. */
export class XenstoreMessages {
  readonly #send: (bytes: Uint8Array) => void;
  readonly #replies: ((reply: string) => void)[] = [];
  readonly #events: string[] = [];
  readonly #eventWaiters: ((event: string) => void)[] = [];
  #received = Buffer.alloc(0);

  constructor(send: (bytes: Uint8Array) => void) {
    this.#send = send;
  }

  /** The reply's payload without its final NUL; an error is its name, such as `ENOENT`. */
  request(type: number, ...words: readonly string[]): Promise<string> {
    const payload = Buffer.from(words.map((word) => `${word}\0`).join(''));
    return this.requestBytes(type, payload);
  }

  requestBytes(type: number, payload: Uint8Array): Promise<string> {
    const message = Buffer.alloc(XSD_SOCKMSG.size + payload.length);
    XSD_SOCKMSG.write(new DataView(message.buffer, message.byteOffset), 0, {
      type,
      req_id: 0,
      tx_id: 0,
      len: payload.length,
    });
    message.set(payload, XSD_SOCKMSG.size);
    return new Promise((resolve) => {
      this.#replies.push(resolve);
      this.#send(message);
    });
  }

  /** The next watch event, path and token with a blank between them. */
  event(): Promise<string> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve(event);
    return new Promise((resolve) => this.#eventWaiters.push(resolve));
  }

  receive(bytes: Uint8Array): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= XSD_SOCKMSG.size) {
      const view = new DataView(this.#received.buffer, this.#received.byteOffset);
      const { type, len } = XSD_SOCKMSG.read(view, 0);
      const end = XSD_SOCKMSG.size + len;
      if (this.#received.length < end) return;
      const payload = this.#received.toString('latin1', XSD_SOCKMSG.size, end);
      this.#received = this.#received.subarray(end);
      this.#deliver(type, payload.replace(/\0$/, ''));
    }
  }

  #deliver(type: number, payload: string): void {
    if (type === XS_WATCH_EVENT) {
      const event = payload.replace('\0', ' ');
      const waiter = this.#eventWaiters.shift();
      if (waiter === undefined) this.#events.push(event);
      else waiter(event);
    } else {
      this.#replies.shift()!(type === XS_ERROR ? payload.toUpperCase() : payload);
    }
  }
}
