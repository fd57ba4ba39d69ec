import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import type { BufferPlan } from './driver-options.ts';

/** Bytes of device addresses in a row that a mapper is asked for: with grants these are consecutive references. */
const CHUNK_SIZE = 64 * 1024;
const WORD = 2 ** 32;

/** Buffers of one size, lent to the device for as long as the driver lives. */
export class LentBuffers {
  readonly count: number;
  /** Bytes of each. */
  readonly size: number;
  /** By buffer: offset in the mapper's memory, and device address. */
  readonly offset: Uint32Array;
  readonly addressLow: Uint32Array;
  readonly addressHigh: Uint32Array;
  readonly #dma: DmaMapper;
  readonly #chunks: CoherentBuffer[] = [];

  /** Throws `DmaError` when there is no memory; nothing stays lent. */
  constructor(dma: DmaMapper, { count, size }: BufferPlan) {
    this.count = count;
    this.size = size;
    this.offset = new Uint32Array(count);
    this.addressLow = new Uint32Array(count);
    this.addressHigh = new Uint32Array(count);
    this.#dma = dma;
    try {
      this.#lend(Math.max(1, Math.floor(CHUNK_SIZE / size)));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Only when the device does not use them any more. */
  release(): void {
    for (const chunk of this.#chunks.splice(0)) this.#dma.freeCoherent(chunk);
  }

  #lend(chunkCount: number): void {
    for (let first = 0; first < this.count; first += chunkCount) {
      const end = Math.min(first + chunkCount, this.count);
      const chunk = this.#dma.allocateCoherent((end - first) * this.size);
      this.#chunks.push(chunk);
      for (let index = first; index < end; index += 1) {
        const distance = (index - first) * this.size;
        const low = chunk.addressLow + distance;
        this.offset[index] = chunk.offset + distance;
        this.addressLow[index] = low % WORD;
        this.addressHigh[index] = chunk.addressHigh + (low >= WORD ? 1 : 0);
      }
    }
  }
}
