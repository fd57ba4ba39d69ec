/** Handles that a maptrack has room for before it grows first. */
const CAPACITY_INITIAL = 1024;
const NO_HANDLE = -1;

/**
 * The mappings of a domain by handle (Xen: `struct grant_mapping`), six bytes each. Grows by doubling, up to its limit. A
 * handle that was given back is the next to be given out.
 */
export class Maptrack {
  readonly #countMax: number;
  /** What the owner keeps for a handle, 0 where none is; and the reference, or the next free handle. */
  #entries: Uint16Array;
  #refs: Int32Array;
  #firstFree = NO_HANDLE;
  /** Handles from here on were never used. */
  #end = 0;

  constructor(countMax: number) {
    if (!Number.isInteger(countMax) || countMax < 1) throw new RangeError(`${countMax} mappings are none`);
    this.#countMax = countMax;
    this.#entries = new Uint16Array(Math.min(countMax, CAPACITY_INITIAL));
    this.#refs = new Int32Array(this.#entries.length);
  }

  get isFull(): boolean {
    return this.#firstFree === NO_HANDLE && this.#end === this.#countMax;
  }

  /** Handles below may be in use. */
  get end(): number {
    return this.#end;
  }

  /** 0 for a handle that is not in use, or is none. */
  entryOf(handle: number): number {
    return (handle >= 0 && handle < this.#end ? this.#entries[handle] : 0) ?? 0;
  }

  refOf(handle: number): number {
    return this.#refs[handle]!;
  }

  /** A handle for an entry that is not 0; the track must not be full. */
  take(entry: number, ref: number): number {
    let handle = this.#firstFree;
    if (handle === NO_HANDLE) {
      handle = this.#end;
      if (handle === this.#entries.length) this.#grow();
      this.#end += 1;
    } else this.#firstFree = this.#refs[handle]!;
    this.#entries[handle] = entry;
    this.#refs[handle] = ref;
    return handle;
  }

  /** Gives a handle back that is in use. */
  free(handle: number): void {
    this.#entries[handle] = 0;
    this.#refs[handle] = this.#firstFree;
    this.#firstFree = handle;
  }

  #grow(): void {
    const capacity = Math.min(this.#countMax, this.#entries.length * 2);
    const entries = new Uint16Array(capacity);
    const refs = new Int32Array(capacity);
    entries.set(this.#entries);
    refs.set(this.#refs);
    this.#entries = entries;
    this.#refs = refs;
  }
}
