import { ADD_FULL, createBufferList, type BufferList, type DriverQueue } from '@virtlab/vring';
import type { DmaMapper } from '@virtlab/guest-memory';
import type { DriverSession } from '../driver-session.ts';

/** What memory holds that nobody wrote. */
export const POISON = 0xa5;

interface Exchange {
  readonly payload: Uint8Array;
  readonly out: number;
  readonly back: number;
  readonly backSize: number;
}

/** Bytes that tell position and request apart. */
export function pattern(size: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = (at * 31 + (at >>> 8) * 7 + seed * 101) & 0xff;
  return bytes;
}

/** `[size]` cut into `count` pieces of about the same size, none empty. */
export function split(size: number, count: number): number[] {
  const pieces = Math.min(count, size);
  return Array.from({ length: pieces }, (_, piece) => {
    return Math.floor((size * (piece + 1)) / pieces) - Math.floor((size * piece) / pieces);
  });
}

/** Sends bytes to an echoing queue and checks each answer, byte by byte. */
export class EchoClient {
  readonly #session: DriverSession;
  readonly #index: number;
  readonly #dma: DmaMapper;
  readonly #buffers: BufferList = createBufferList();
  readonly #exchanges = new Map<number, Exchange>();
  #nextToken = 0;
  /** Answers that were right; and what was wrong with the others. */
  doneCount = 0;
  readonly faults: string[] = [];

  constructor(session: DriverSession, queue: number) {
    this.#session = session;
    this.#index = queue;
    this.#dma = session.link.dma;
    session.onCall(queue, () => this.collect());
  }

  get queue(): DriverQueue {
    return this.#session.queues[this.#index]!;
  }
  get pendingCount(): number {
    return this.#exchanges.size;
  }

  /** False when the ring is full. `pieceCount` buffers each way; `kick` publishes it. */
  add(size: number, pieceCount: number = 1): boolean {
    const token = this.#nextToken;
    const payload = pattern(size, token);
    const backSize = Math.max(size, 1);
    const out = size === 0 ? 0 : this.#dma.allocate(size);
    const back = this.#dma.allocate(backSize);
    const exchange: Exchange = { payload, out, back, backSize };
    const { u8 } = this.#dma.memory;
    if (size > 0) u8.set(payload, out);
    u8.fill(POISON, back, back + backSize);
    this.#buffers.clear();
    let at = out;
    for (const piece of split(size, pieceCount)) {
      this.#buffers.addReadable(at, piece);
      at += piece;
    }
    at = back;
    for (const piece of split(backSize, pieceCount)) {
      this.#buffers.addWritable(at, piece);
      at += piece;
    }
    const status = this.queue.add(this.#buffers, token);
    if (status !== 0) {
      this.#free(exchange);
      if (status === ADD_FULL) return false;
      throw new Error(`add gave ${status}`);
    }
    this.#nextToken = (token + 1) & 0x7fff_ffff;
    this.#exchanges.set(token, exchange);
    return true;
  }

  kick(): void {
    this.#session.kick(this.#index);
  }

  send(size: number, pieceCount: number = 1): void {
    if (!this.add(size, pieceCount)) throw new Error('The ring is full');
    this.kick();
  }

  collect(): void {
    for (let token = this.queue.popUsed(); token >= 0; token = this.queue.popUsed()) {
      const exchange = this.#exchanges.get(token);
      if (exchange === undefined) {
        this.faults.push(`token ${token} completed twice`);
        continue;
      }
      this.#exchanges.delete(token);
      this.#check(token, exchange, this.queue.usedSize);
      this.#free(exchange);
    }
  }

  /** Gives up on what is in flight, once the session was stopped. */
  abandon(): void {
    for (const exchange of this.#exchanges.values()) this.#free(exchange);
    this.#exchanges.clear();
  }

  #check(token: number, exchange: Exchange, usedSize: number): void {
    const { payload, back } = exchange;
    const { u8 } = this.#dma.memory;
    if (usedSize !== payload.length) {
      this.faults.push(`request ${token}: ${usedSize} bytes of ${payload.length} came back`);
      return;
    }
    for (let at = 0; at < payload.length; at += 1) {
      if (u8[back + at] === payload[at]) continue;
      this.faults.push(
        `request ${token}: byte ${at} of ${payload.length} is ${u8[back + at]}, not ${payload[at]}`,
      );
      return;
    }
    this.doneCount += 1;
  }

  #free({ payload, out, back, backSize }: Exchange): void {
    if (payload.length > 0) this.#dma.free(out, payload.length);
    this.#dma.free(back, backSize);
  }
}
