import type { ByteStream, ByteStreamHandler } from './contract.ts';

export interface MemoryStreamOptions {
  /** Bytes under way in each direction before `send` takes no more. Default 64 KiB. */
  readonly capacitySize?: number;
  /** Runs a function soon, in order. Default `queueMicrotask`. Nothing is ever delivered from within `send`. */
  readonly schedule?: (run: () => void) => void;
}

/** Two ends of a byte stream within one thread. */
export function memoryStreamPair(options: MemoryStreamOptions = {}): [ByteStream, ByteStream] {
  const capacitySize = options.capacitySize ?? 64 * 1024;
  const schedule = options.schedule ?? queueMicrotask;
  const one = new MemoryStream(capacitySize, schedule);
  const other = new MemoryStream(capacitySize, schedule);
  one.join(other);
  other.join(one);
  return [one, other];
}

class MemoryStream implements ByteStream {
  readonly #capacitySize: number;
  readonly #schedule: (run: () => void) => void;
  #peer: MemoryStream | undefined;
  #handler: ByteStreamHandler | undefined;
  #incoming: Uint8Array[] = [];
  #incomingSize = 0;
  #isPaused = false;
  #isScheduled = false;
  #isPeerWaiting = false;
  #isEnding = false;
  #isClosed = false;

  constructor(capacitySize: number, schedule: (run: () => void) => void) {
    this.#capacitySize = capacitySize;
    this.#schedule = schedule;
  }

  join(peer: MemoryStream): void {
    this.#peer = peer;
  }

  attach(handler: ByteStreamHandler): void {
    this.#handler = handler;
    this.#scheduleDelivery();
  }

  send(bytes: Uint8Array): number {
    const peer = this.#peer;
    if (this.#isClosed || peer === undefined) return bytes.length;
    const count = Math.min(this.#capacitySize - peer.#incomingSize, bytes.length);
    if (count > 0) {
      peer.#incoming.push(count === bytes.length ? bytes : bytes.subarray(0, count));
      peer.#incomingSize += count;
      peer.#scheduleDelivery();
    }
    if (count < bytes.length) peer.#isPeerWaiting = true;
    return count;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#scheduleDelivery();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#finish();
    const peer = this.#peer;
    if (peer === undefined || peer.#isClosed) return;
    peer.#isEnding = true;
    // An end that cannot send and does not read would never learn it: a socket's write fails then.
    if (peer.#isPaused && this.#isPeerWaiting) peer.#finish();
    else peer.#scheduleDelivery();
  }

  #scheduleDelivery(): void {
    if (this.#isScheduled || this.#isClosed) return;
    this.#isScheduled = true;
    this.#schedule(() => {
      this.#isScheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const handler = this.#handler;
    if (handler === undefined) return;
    const chunks = this.#incoming;
    this.#incoming = [];
    for (const [index, chunk] of chunks.entries()) {
      if (this.#isPaused || this.#isClosed) {
        this.#incoming = [...chunks.slice(index), ...this.#incoming];
        break;
      }
      this.#incomingSize -= chunk.length;
      handler.onData(chunk);
    }
    if (this.#isPeerWaiting && this.#incomingSize < this.#capacitySize) {
      this.#isPeerWaiting = false;
      if (this.#peer !== undefined) this.#peer.#drained();
    }
    if (this.#isEnding && !this.#isClosed && this.#incoming.length === 0) this.#finish();
  }

  #drained(): void {
    this.#schedule(() => {
      if (!this.#isClosed) this.#handler?.onDrain();
    });
  }

  #finish(): void {
    this.#isClosed = true;
    this.#incoming = [];
    this.#incomingSize = 0;
    this.#handler?.onClose(undefined);
  }
}
