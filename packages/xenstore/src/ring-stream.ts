import {
  XENSTORE_DOMAIN_INTERFACE,
  XENSTORE_ERROR_NONE,
  XENSTORE_ERROR_PROTO,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RING_MASK,
  XENSTORE_RING_SIZE,
} from '@virtlab/abi/xs-wire';
import type { ByteStream, ByteStreamHandler } from './contract.ts';

/** Where a `struct xenstore_domain_interface` lies: views of shared memory, and its byte offset (4-aligned) in both. */
export interface RingPage {
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly byteOffset: number;
}

export type RingRole = 'server' | 'client';

/** Chunks of at most a ring that one event may deliver before the rest waits for its turn. */
const ROUND_COUNT = 8;

/** Index of a 32-bit field of the page. */
export function ringWord(page: RingPage, field: keyof typeof XENSTORE_DOMAIN_INTERFACE.offset): number {
  return (page.byteOffset + XENSTORE_DOMAIN_INTERFACE.offset[field]) / 4;
}

/**
 * One side of the ring page as a byte stream (xenstore-ring.txt). The peer may write anything anywhere at any time:
 * its index is read once per step and checked, bytes are copied out before they are looked at, and our own indices
 * are kept privately and only ever published. An impossible index ends the stream (the server then shows
 * `XENSTORE_ERROR_RINGIDX`). Indices run freely over 32 bits and are stored as single words.
 */
export class RingStream implements ByteStream {
  #page: RingPage;
  readonly #isServer: boolean;
  readonly #reportsErrors: boolean;
  readonly #kick: () => void;
  #inputOffset: number;
  #outputOffset: number;
  #inputConsWord: number;
  #inputProdWord: number;
  #outputConsWord: number;
  #outputProdWord: number;
  #errorWord: number;
  readonly #scratch = new Uint8Array(XENSTORE_RING_SIZE);
  #inputCons: number;
  #outputProd: number;
  #handler: ByteStreamHandler | undefined;
  #isPaused = false;
  #isSuspended = false;
  #isFull = false;
  #isReceiving = false;
  #isClosed = false;

  /**
   * `kick` sends on the event channel. A server starts with the indices as they are (`serveRing` clears them); a
   * client discards replies that were meant for whoever used the ring before.
   */
  constructor(page: RingPage, role: RingRole, kick: () => void, reportsErrors: boolean = true) {
    if (page.byteOffset % 4 !== 0)
      throw new RangeError(`Ring page at ${page.byteOffset} is not aligned to 4 bytes`);
    const { offset } = XENSTORE_DOMAIN_INTERFACE;
    this.#page = page;
    this.#kick = kick;
    this.#isServer = role === 'server';
    this.#reportsErrors = this.#isServer && reportsErrors;
    this.#inputOffset = page.byteOffset + (this.#isServer ? offset.req : offset.rsp);
    this.#outputOffset = page.byteOffset + (this.#isServer ? offset.rsp : offset.req);
    this.#inputConsWord = ringWord(page, this.#isServer ? 'req_cons' : 'rsp_cons');
    this.#inputProdWord = ringWord(page, this.#isServer ? 'req_prod' : 'rsp_prod');
    this.#outputConsWord = ringWord(page, this.#isServer ? 'rsp_cons' : 'req_cons');
    this.#outputProdWord = ringWord(page, this.#isServer ? 'rsp_prod' : 'req_prod');
    this.#errorWord = ringWord(page, 'error');
    this.#outputProd = Atomics.load(page.u32, this.#outputProdWord);
    this.#inputCons = Atomics.load(page.u32, this.#isServer ? this.#inputConsWord : this.#inputProdWord);
    if (!this.#isServer) Atomics.store(page.u32, this.#inputConsWord, this.#inputCons);
  }

  attach(handler: ByteStreamHandler): void {
    this.#handler = handler;
    this.onEvent();
  }

  /** To be called whenever the event channel fires. Spurious calls are harmless. */
  onEvent(): void {
    if (this.#isClosed || this.#isSuspended || this.#handler === undefined) return;
    if (!this.#isServer) {
      const error = Atomics.load(this.#page.u32, this.#errorWord);
      if (error !== XENSTORE_ERROR_NONE) return this.#end(`xenstored reports error ${error} on the ring`);
    }
    this.#receive();
    if (!this.#isFull || this.#isClosed) return;
    if (this.#space() > 0) {
      this.#isFull = false;
      this.#handler.onDrain();
    }
  }

  send(bytes: Uint8Array): number {
    let taken = 0;
    if (this.#isSuspended) {
      this.#isFull = true;
      return 0;
    }
    while (taken < bytes.length && !this.#isClosed) {
      const count = Math.min(this.#space(), bytes.length - taken);
      if (count === 0 || this.#isClosed) break;
      this.#copyIn(bytes.subarray(taken, taken + count));
      this.#outputProd = (this.#outputProd + count) >>> 0;
      Atomics.store(this.#page.u32, this.#outputProdWord, this.#outputProd);
      taken += count;
    }
    if (this.#isClosed) return bytes.length;
    this.#isFull = taken < bytes.length;
    if (taken > 0) this.#kick();
    return taken;
  }

  /** Leaves the page alone, which may be unmapped until `moveTo`. */
  suspend(): void {
    this.#isSuspended = true;
  }

  /** Goes on where it was, in the same page as it is mapped now. */
  moveTo(page: RingPage): void {
    const delta = page.byteOffset - this.#page.byteOffset;
    this.#page = page;
    this.#inputOffset += delta;
    this.#outputOffset += delta;
    this.#inputConsWord += delta / 4;
    this.#inputProdWord += delta / 4;
    this.#outputConsWord += delta / 4;
    this.#outputProdWord += delta / 4;
    this.#errorWord += delta / 4;
    this.#isSuspended = false;
    this.onEvent();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#receive();
  }

  close(failure?: 'protocol'): void {
    if (this.#isClosed) return;
    if (failure === 'protocol') this.#report(XENSTORE_ERROR_PROTO);
    this.#end(undefined);
  }

  #receive(): void {
    if (this.#isReceiving || this.#handler === undefined) return;
    this.#isReceiving = true;
    try {
      for (let round = 0; round < ROUND_COUNT; round++) {
        if (!this.#receiveChunk()) return;
      }
    } finally {
      this.#isReceiving = false;
    }
    // The event for what is left may have been merged into the one being handled.
    queueMicrotask(() => this.onEvent());
  }

  /** Returns whether there was anything. */
  #receiveChunk(): boolean {
    if (this.#isClosed || this.#isPaused || this.#isSuspended) return false;
    const { u32 } = this.#page;
    const cons = this.#inputCons;
    const count = (Atomics.load(u32, this.#inputProdWord) - cons) >>> 0;
    if (count === 0) return false;
    if (count > XENSTORE_RING_SIZE) {
      this.#fail(`${count} bytes in a ring of ${XENSTORE_RING_SIZE}`);
      return false;
    }
    this.#copyOut(cons, count);
    this.#inputCons = (cons + count) >>> 0;
    Atomics.store(u32, this.#inputConsWord, this.#inputCons);
    // The peer sleeps for room only if it saw a full ring; asked after the store, so that one of us sees the other.
    const wasFull = (Atomics.load(u32, this.#inputProdWord) - cons) >>> 0 >= XENSTORE_RING_SIZE;
    if (wasFull) this.#kick();
    this.#handler?.onData(this.#scratch.subarray(0, count));
    return true;
  }

  /** Free bytes towards the peer; 0 if its index is impossible, and the stream is then closed. */
  #space(): number {
    const used = (this.#outputProd - Atomics.load(this.#page.u32, this.#outputConsWord)) >>> 0;
    if (used <= XENSTORE_RING_SIZE) return XENSTORE_RING_SIZE - used;
    this.#fail(`${used} bytes unread in a ring of ${XENSTORE_RING_SIZE}`);
    return 0;
  }

  #copyOut(cons: number, count: number): void {
    const start = cons & XENSTORE_RING_MASK;
    const first = Math.min(count, XENSTORE_RING_SIZE - start);
    const at = this.#inputOffset;
    this.#scratch.set(this.#page.u8.subarray(at + start, at + start + first));
    this.#scratch.set(this.#page.u8.subarray(at, at + count - first), first);
  }

  #copyIn(bytes: Uint8Array): void {
    const start = this.#outputProd & XENSTORE_RING_MASK;
    const first = Math.min(bytes.length, XENSTORE_RING_SIZE - start);
    this.#page.u8.set(bytes.subarray(0, first), this.#outputOffset + start);
    this.#page.u8.set(bytes.subarray(first), this.#outputOffset);
  }

  #fail(reason: string): void {
    this.#report(XENSTORE_ERROR_RINGIDX);
    this.#end(reason);
  }

  #report(error: number): void {
    if (!this.#reportsErrors) return;
    Atomics.store(this.#page.u32, this.#errorWord, error);
    this.#kick();
  }

  #end(reason: string | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handler?.onClose(reason);
  }
}
