import type { MemoryRegion } from '@virtlab/guest-memory';
import { type BufferList, type DriverQueue, createBufferList } from '@virtlab/vring';
import { BoundedSpin } from '../bounded-spin.ts';
import { BATCH_COUNT, BUFFER_SIZE } from './shared-ring.ts';

/** Keeps the ring full with the numbered buffers that `NumbersDevice` expects. */
export class NumbersDriver {
  readonly #queue: DriverQueue;
  readonly #u32: Uint32Array;
  /** Word index of slot 0. */
  readonly #base: number;
  readonly #slotCount: number;
  /** The buffer of each slot; even ones are for the device to read. */
  readonly #buffers: readonly BufferList[];
  #sent = 0;
  #returned = 0;
  #end = 0;

  /** `offset`: bytes of memory of the driver for as many buffers as the ring has entries. */
  constructor(queue: DriverQueue, { u32 }: MemoryRegion, offset: number) {
    this.#queue = queue;
    this.#u32 = u32;
    this.#base = offset / BUFFER_SIZE;
    this.#slotCount = queue.size;
    this.#buffers = Array.from({ length: queue.size }, (_, slot) => {
      const buffers = createBufferList(1);
      if (slot % 2 === 0) buffers.addReadable(offset + slot * BUFFER_SIZE, BUFFER_SIZE);
      else buffers.addWritable(offset + slot * BUFFER_SIZE, BUFFER_SIZE);
      return buffers;
    });
  }

  /** Sets the goal: so many buffers more. */
  begin(count: number): void {
    this.#end += count;
  }

  get isDone(): boolean {
    return this.#returned === this.#end;
  }

  /** Stages as many buffers as there is room for, up to a batch; how many. */
  fill(): number {
    const limit = Math.min(this.#end, this.#returned + this.#slotCount, this.#sent + BATCH_COUNT);
    const staged = limit - this.#sent;
    while (this.#sent < limit) {
      const slot = this.#sent & (this.#slotCount - 1);
      if ((slot & 1) === 0) this.#u32[this.#base + slot] = this.#sent;
      if (this.#queue.add(this.#buffers[slot]!, slot) !== 0) throw new Error('The ring is full or broken');
      this.#sent += 1;
    }
    return staged;
  }

  /** Takes what came back; how many. */
  collect(): number {
    const queue = this.#queue;
    let count = 0;
    for (let slot = queue.popUsed(); slot >= 0; slot = queue.popUsed()) {
      const isFine = slot === (this.#returned & (this.#slotCount - 1));
      if (!isFine || ((slot & 1) === 1 && this.#u32[this.#base + slot] !== this.#returned >>> 0)) {
        throw new Error(`Buffer ${this.#returned} did not come back as it should`);
      }
      this.#returned += 1;
      count += 1;
    }
    if (queue.violation !== undefined) throw new Error(queue.violation.message);
    return count;
  }

  /** Reaches the goal without sleeping. */
  poll(): void {
    const spin = new BoundedSpin();
    while (!this.isDone) {
      const staged = this.fill();
      if (staged > 0) this.#queue.publish();
      if (staged + this.collect() > 0) spin.progress();
      else spin.idle();
    }
  }
}
