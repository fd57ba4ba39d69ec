/**
 * Mapped pieces of a buffer, as a struct of arrays that is reused from request to request.
 * Grows by doubling up to `capacityMax` and keeps what it has; `clear` costs nothing.
 */
export class SegmentList {
  /** Index in `DeviceMemory.regions`. */
  region: Uint16Array;
  /** Byte offset in that region. */
  offset: Uint32Array;
  /** Bytes; never 0. */
  size: Uint32Array;
  /** What the mapper needs to end the mapping (the first grant reference), or -1. */
  handle: Int32Array;
  count = 0;
  readonly capacityMax: number;

  constructor(capacity: number = 8, capacityMax: number = 65536) {
    this.capacityMax = capacityMax;
    this.region = new Uint16Array(capacity);
    this.offset = new Uint32Array(capacity);
    this.size = new Uint32Array(capacity);
    this.handle = new Int32Array(capacity);
  }

  clear(): void {
    this.count = 0;
  }

  /** False when `capacityMax` segments are held already. */
  push(region: number, offset: number, size: number, handle: number): boolean {
    const at = this.count;
    if (at === this.offset.length && !this.#grow()) return false;
    this.region[at] = region;
    this.offset[at] = offset;
    this.size[at] = size;
    this.handle[at] = handle;
    this.count = at + 1;
    return true;
  }

  #grow(): boolean {
    if (this.count >= this.capacityMax) return false;
    const capacity = Math.min(this.count * 2, this.capacityMax);
    const region = new Uint16Array(capacity);
    const offset = new Uint32Array(capacity);
    const size = new Uint32Array(capacity);
    const handle = new Int32Array(capacity);
    region.set(this.region);
    offset.set(this.offset);
    size.set(this.size);
    handle.set(this.handle);
    this.region = region;
    this.offset = offset;
    this.size = size;
    this.handle = handle;
    return true;
  }
}
