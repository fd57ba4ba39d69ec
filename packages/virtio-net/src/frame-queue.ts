import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import { copyRegion } from './copy-bytes.ts';
import type { FrameView } from './network.ts';

/** Frames begin at multiples of this, so that they can be copied in words. */
const ALIGNMENT = 8;
/** Views that are kept for the next batch: it mostly has frames of the same sizes. */
const VIEW_COUNT_MAX = 256;
const NO_VIEW = new Uint8Array();

/**
 * Frames copied into memory of ours until somebody takes them, first in, first out, in a fixed number of bytes. The space
 * is used anew once all are taken.
 */
export class FrameQueue {
  readonly #memory: MemoryRegion;
  readonly #sizes: number[] = [];
  readonly #views: Uint8Array[] = [];
  #next = 0;
  #end = 0;
  #start = 0;

  /** `capacitySize` bytes, and a few less for each frame whose size is no multiple of 8. */
  constructor(capacitySize: number) {
    this.#memory = memoryRegion(new ArrayBuffer(aligned(Math.max(capacitySize, 1))));
  }

  get isEmpty(): boolean {
    return this.#next === this.#sizes.length;
  }

  /** False when there is no room. */
  add(frame: FrameView): boolean {
    const { size, memory } = frame;
    const at = this.#end;
    if (at + size > this.#memory.size) return false;
    if (memory === undefined) frame.copy(0, size, this.#memory.u8, at);
    else copyRegion(memory, frame.start ?? 0, this.#memory, at, size);
    this.#sizes.push(size);
    this.#end = aligned(at + size);
    return true;
  }

  /** The oldest frame, valid until the queue was empty and is added to. Only when it is not empty. */
  take(): Uint8Array {
    const index = this.#next;
    const start = this.#start;
    const size = this.#sizes[index]!;
    this.#next = index + 1;
    this.#start = aligned(start + size);
    const kept = index < this.#views.length ? this.#views[index]! : NO_VIEW;
    if (kept.length === size && kept.byteOffset === start) return kept;
    const view = this.#memory.u8.subarray(start, start + size);
    if (index < VIEW_COUNT_MAX) this.#views[index] = view;
    return view;
  }

  /** Only when all frames are taken and nobody looks at one: gives their space back. */
  recycle(): void {
    this.#sizes.length = 0;
    this.#next = 0;
    this.#start = 0;
    this.#end = 0;
  }
}

function aligned(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}
