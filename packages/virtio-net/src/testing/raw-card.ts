import type { DmaMapper } from '@virtlab/guest-memory';
import { POISON } from '@virtlab/guest-memory/testing';
import type { DriverSession } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/vring';

/** A chain that the device gave back. */
export interface UsedChain {
  readonly queue: number;
  readonly token: number;
  readonly usedSize: number;
  /** The writable bytes, all of them; `POISON` where the device wrote nothing. */
  readonly bytes: Uint8Array;
}

interface PendingChain {
  readonly offset: number;
  readonly size: number;
  readonly readableSize: number;
}

/** A driver that puts chains of any shape on the queues of a live device. */
export class RawCard {
  readonly used: UsedChain[] = [];
  readonly session: DriverSession;
  readonly #dma: DmaMapper;
  readonly #pending = new Map<string, PendingChain>();
  #nextToken = 0;

  constructor(session: DriverSession) {
    this.session = session;
    this.#dma = session.link.dma;
    session.queues.forEach((_, queue) => session.onCall(queue, () => this.#collect(queue)));
  }

  /** Puts a chain on a queue, without a kick: readable bytes cut into descriptors, and writable sizes. Its token. */
  add(queue: number, readable: readonly Uint8Array[], writableSizes: readonly number[] = []): number {
    const readableSize = readable.reduce((sum, piece) => sum + piece.length, 0);
    const size = writableSizes.reduce((sum, piece) => sum + piece, readableSize);
    const offset = this.#dma.allocate(size);
    const buffers = createBufferList();
    let at = offset;
    for (const piece of readable) {
      this.#dma.memory.u8.set(piece, at);
      buffers.addReadable(at, piece.length);
      at += piece.length;
    }
    this.#dma.memory.u8.fill(POISON, at, offset + size);
    for (const piece of writableSizes) {
      buffers.addWritable(at, piece);
      at += piece;
    }
    const token = this.#nextToken;
    this.#nextToken += 1;
    const status = this.session.queues[queue]!.add(buffers, token);
    if (status !== 0) throw new Error(`the chain does not go on queue ${queue}: ${status}`);
    this.#pending.set(`${queue}/${token}`, { offset, size, readableSize });
    return token;
  }

  kick(queue: number): void {
    this.session.kick(queue);
  }

  /** Resets the device and takes all memory back. */
  async stop(): Promise<void> {
    await this.session.stop();
    for (const { offset, size } of this.#pending.values()) this.#dma.free(offset, size);
    this.#pending.clear();
  }

  #collect(queueIndex: number): void {
    const queue = this.session.queues[queueIndex]!;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      const key = `${queueIndex}/${token}`;
      const { offset, size, readableSize } = this.#pending.get(key)!;
      const bytes = this.#dma.memory.u8.slice(offset + readableSize, offset + size);
      this.used.push({ queue: queueIndex, token, usedSize: queue.usedSize, bytes });
      this.#dma.free(offset, size);
      this.#pending.delete(key);
    }
  }
}
