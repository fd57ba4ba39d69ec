import { VIRTIO_BLK_OUTHDR, VIRTIO_BLK_T_IN } from '@virtlab/abi/virtio-blk';
import type { DmaMapper } from '@virtlab/guest-memory';
import { POISON } from '@virtlab/guest-memory/testing';
import type { DriverSession } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/vring';
import type { BlkBench } from './blk-bench.ts';

/** A request as a test wants it, framing included; everything may be wrong. */
export interface RawRequest {
  readonly type?: number;
  readonly sector?: bigint;
  /** After the header. */
  readonly payload?: Uint8Array;
  /** Writable bytes before the status. */
  readonly dataSize?: number;
  /** Replaces header and payload. */
  readonly readable?: Uint8Array;
  /** Replaces data and status. */
  readonly writableSize?: number;
  /** Sizes of the first descriptors of each part; what is left makes one more. Default: header alone, status alone. */
  readonly readableCuts?: readonly number[];
  readonly writableCuts?: readonly number[];
}

export interface RawAnswer {
  /** The last writable byte; `POISON` where the device wrote nothing. */
  readonly status: number;
  readonly usedSize: number;
  /** The writable bytes before the status. */
  readonly data: Uint8Array;
}

export function header(type: number, sector: bigint, payload: Uint8Array = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_OUTHDR.size + payload.length);
  VIRTIO_BLK_OUTHDR.write(new DataView(bytes.buffer), 0, { type, reserved: 0, sector });
  bytes.set(payload, VIRTIO_BLK_OUTHDR.size);
  return bytes;
}

/** A driver that sends requests of any shape over a queue of a live device. */
export class RawRequester {
  readonly session: DriverSession;
  readonly #dma: DmaMapper;
  readonly #answers = new Map<number, RawAnswer>();
  readonly #pending = new Map<
    number,
    { readonly offset: number; readonly size: number; readonly writableSize: number }
  >();
  readonly #queue: number;
  #nextToken = 0;

  constructor(session: DriverSession, queue: number = 0) {
    this.session = session;
    this.#dma = session.link.dma;
    this.#queue = queue;
    session.onCall(queue, () => this.#collect());
  }

  /** Puts the request on the ring, without a kick; its token. */
  add(request: RawRequest): number {
    const readable =
      request.readable ?? header(request.type ?? VIRTIO_BLK_T_IN, request.sector ?? 0n, request.payload);
    const writableSize = request.writableSize ?? (request.dataSize ?? 0) + 1;
    const size = readable.length + writableSize;
    const offset = this.#dma.allocate(Math.max(size, 1));
    const { u8 } = this.#dma.memory;
    u8.set(readable, offset);
    u8.fill(POISON, offset + readable.length, offset + size);
    const buffers = createBufferList();
    let at = offset;
    for (const piece of pieces(readable.length, request.readableCuts ?? [VIRTIO_BLK_OUTHDR.size])) {
      buffers.addReadable(at, piece);
      at += piece;
    }
    for (const piece of pieces(writableSize, request.writableCuts ?? [writableSize - 1])) {
      buffers.addWritable(at, piece);
      at += piece;
    }
    const token = this.#nextToken;
    this.#nextToken += 1;
    const result = this.session.queues[this.#queue]!.add(buffers, token);
    if (result !== 0) throw new Error(`the ring does not take the request: ${result}`);
    this.#pending.set(token, { offset, size, writableSize });
    return token;
  }

  /** Descriptors that the ring has left. */
  get freeCount(): number {
    return this.session.queues[this.#queue]!.freeCount;
  }

  kick(): void {
    this.session.kick(this.#queue);
  }

  /** Undefined while the device has not answered. */
  answer(token: number): RawAnswer | undefined {
    return this.#answers.get(token);
  }

  async send(bench: BlkBench, request: RawRequest): Promise<RawAnswer> {
    const token = this.add(request);
    this.kick();
    await bench.until(`answer to request ${token}`, () => this.answer(token) !== undefined);
    return this.answer(token)!;
  }

  /** Resets the device and takes all memory back. */
  async stop(): Promise<void> {
    await this.session.stop();
    for (const { offset, size } of this.#pending.values()) this.#dma.free(offset, Math.max(size, 1));
    this.#pending.clear();
  }

  #collect(): void {
    const queue = this.session.queues[this.#queue]!;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      const { offset, size, writableSize } = this.#pending.get(token)!;
      const end = offset + size;
      const bytes = this.#dma.memory.u8.slice(end - writableSize, end);
      this.#answers.set(token, {
        status: bytes.at(-1)!,
        usedSize: queue.usedSize,
        data: bytes.subarray(0, -1),
      });
      this.#dma.free(offset, Math.max(size, 1));
      this.#pending.delete(token);
    }
  }
}

function pieces(size: number, cuts: readonly number[]): number[] {
  const found: number[] = [];
  let left = size;
  for (const cut of [...cuts, size]) {
    const piece = Math.min(cut, left);
    if (piece > 0) found.push(piece);
    left -= piece;
  }
  return found;
}
