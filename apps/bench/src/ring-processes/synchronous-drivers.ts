import type { MemoryRegion } from '@virtlab/guest-memory';
import { ADD_BROKEN, type DriverQueue, createBufferList } from '@virtlab/vring';
import { BoundedSpin } from '../bounded-spin.ts';
import type { BlockingBell } from './blocking-bell.ts';
import { BUFFER_SIZE } from './shared-ring.ts';

export interface RingtestOptions {
  readonly batch: number;
  readonly outstanding: number;
  /** The bells to sleep with; without them it looks without end. */
  readonly bells?: { readonly kick: BlockingBell; readonly call: BlockingBell } | undefined;
}

/** Linux' ringtest: one buffer added and at most one taken back at a time, each published at once. */
export function driveRingtest(
  queue: DriverQueue,
  offset: number,
  count: number,
  { batch, outstanding, bells }: RingtestOptions,
): void {
  const buffers = createBufferList(1);
  buffers.addWritable(offset, BUFFER_SIZE);
  const spin = new BoundedSpin();
  const kickAfter = Math.min(batch, outstanding);
  let sent = 0;
  let toKick = kickAfter;
  const kick = (): void => {
    toKick = kickAfter;
    if (bells !== undefined && queue.needsKick()) bells.kick.ring();
  };
  queue.disableCalls();
  for (let done = 0; done < count;) {
    let moved = false;
    if (sent < count && sent - done < outstanding && queue.add(buffers, sent & 0xffff) === 0) {
      queue.publish();
      sent += 1;
      moved = true;
      toKick -= 1;
      if (toKick === 0) kick();
    }
    const token = queue.popUsed();
    if (token >= 0) {
      if (token !== (done & 0xffff) || queue.usedSize !== BUFFER_SIZE - 1)
        throw new Error('A buffer is wrong');
      done += 1;
      moved = true;
    }
    if (moved) spin.progress();
    else if (bells === undefined) spin.idle();
    else {
      if (toKick !== kickAfter) kick();
      if (!queue.enableCalls()) bells.call.wait();
      queue.disableCalls();
    }
    if (queue.violation !== undefined) throw new Error(queue.violation.message);
  }
}

/** Buffers of a transfer, by its number. */
const SHAPES = [3, 2, 1, 4] as const;
/** What a transfer from the device holds before it was filled. */
const EMPTY = 0xffff_ffff;

/** `vringh_test --parallel`: transfers of 4 bytes, alternately to the device and back; what goes there comes back with the next. */
export class TransferDriver {
  readonly #queue: DriverQueue;
  readonly #u32: Uint32Array;
  readonly #offset: number;
  readonly #slotCount: number;
  readonly #buffers = createBufferList(Math.max(...SHAPES));
  #sent = 0;
  #done = 0;

  /** `offset`: bytes of memory of the driver for one buffer more than the ring has entries. */
  constructor(queue: DriverQueue, { u32 }: MemoryRegion, offset: number) {
    this.#queue = queue;
    this.#u32 = u32;
    this.#offset = offset;
    this.#slotCount = queue.size + 1;
  }

  run(count: number, kick: BlockingBell, call: BlockingBell): void {
    const queue = this.#queue;
    this.#sent = 0;
    this.#done = 0;
    queue.disableCalls();
    for (;;) {
      this.#collect();
      if (this.#done === count) return;
      if (this.#sent < count && this.#add()) {
        if (queue.needsKick()) kick.ring();
        continue;
      }
      if (!queue.enableCalls()) call.wait();
      queue.disableCalls();
    }
  }

  #add(): boolean {
    const number = this.#sent;
    const at = this.#offset + (number % this.#slotCount) * BUFFER_SIZE;
    const isForDevice = number % 2 === 0;
    const last = SHAPES[(number >>> 2) % SHAPES.length]! - 1;
    const buffers = this.#buffers;
    buffers.clear();
    for (let part = 0; part <= last; part += 1) {
      const size = part < last ? 1 : BUFFER_SIZE - last;
      if (isForDevice) buffers.addReadable(at + part, size);
      else buffers.addWritable(at + part, size);
    }
    const slot = at / BUFFER_SIZE;
    const before = this.#u32[slot]!;
    this.#u32[slot] = isForDevice ? number : EMPTY;
    const result = this.#queue.add(buffers, number % this.#slotCount);
    if (result === ADD_BROKEN) throw new Error(this.#queue.violation?.message);
    if (result === 0) this.#sent += 1;
    else this.#u32[slot] = before;
    return result === 0;
  }

  #collect(): void {
    const queue = this.#queue;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      const number = this.#done;
      const isForDevice = number % 2 === 0;
      const word = this.#u32[this.#offset / BUFFER_SIZE + (number % this.#slotCount)]!;
      const isFine =
        token === number % this.#slotCount &&
        word === (isForDevice ? number : number - 1) &&
        queue.usedSize === (isForDevice ? 0 : BUFFER_SIZE);
      if (!isFine) throw new Error(`Transfer ${number} did not come back as it should`);
      this.#done += 1;
    }
    if (queue.violation !== undefined) throw new Error(queue.violation.message);
  }
}
