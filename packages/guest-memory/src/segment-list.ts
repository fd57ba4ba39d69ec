/** Arrays that a list consists of, one after the other in its memory. */
const PLANES = 4;

/**
 * Mapped pieces of a buffer, as a struct of arrays that is reused from request to request.
 * Grows by doubling up to `capacityMax` and keeps what it has; `clear` costs nothing. The four arrays are views of one
 * memory, through which `push` writes: each array that is touched costs.
 */
export class SegmentList {
  /** Index in `DeviceMemory.regions`. */
  region!: Uint32Array;
  /** Byte offset in that region. */
  offset!: Uint32Array;
  /** Bytes; never 0. */
  size!: Uint32Array;
  /** What the mapper needs to end the mapping (the first grant reference), or -1. */
  handle!: Int32Array;
  count = 0;
  readonly capacityMax: number;
  #words!: Uint32Array;
  #capacity!: number;

  constructor(capacity: number = 8, capacityMax: number = 65536) {
    this.capacityMax = capacityMax;
    this.#allocate(capacity);
  }

  clear(): void {
    this.count = 0;
  }

  /** False when `capacityMax` segments are held already. */
  push(region: number, offset: number, size: number, handle: number): boolean {
    const at = this.count;
    if (at === this.#capacity && !this.#grow()) return false;
    const words = this.#words;
    const capacity = this.#capacity;
    words[at] = region;
    words[at + capacity] = offset;
    words[at + capacity * 2] = size;
    words[at + capacity * 3] = handle;
    this.count = at + 1;
    return true;
  }

  #grow(): boolean {
    if (this.count >= this.capacityMax) return false;
    const { region, offset, size, handle } = this;
    this.#allocate(Math.min(this.count * 2, this.capacityMax));
    this.region.set(region);
    this.offset.set(offset);
    this.size.set(size);
    this.handle.set(handle);
    return true;
  }

  #allocate(capacity: number): void {
    const plane = capacity * Uint32Array.BYTES_PER_ELEMENT;
    const memory = new ArrayBuffer(plane * PLANES);
    this.#words = new Uint32Array(memory);
    this.#capacity = capacity;
    this.region = new Uint32Array(memory, 0, capacity);
    this.offset = new Uint32Array(memory, plane, capacity);
    this.size = new Uint32Array(memory, plane * 2, capacity);
    this.handle = new Int32Array(memory, plane * 3, capacity);
  }
}
