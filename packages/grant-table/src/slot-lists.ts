const NO_SLOT = -1;
const CAPACITY_INITIAL = 64;

/** Slots as one array a field: the free ones in a stack, those that wait for their next use in a list, oldest first. */
export class SlotLists {
  ref: Uint32Array = new Uint32Array(0);
  handle: Int32Array = new Int32Array(0);
  frame: Uint32Array = new Uint32Array(0);
  isWritable: Uint8Array = new Uint8Array(0);
  useCount: Uint32Array = new Uint32Array(0);
  usedAt: Float64Array = new Float64Array(0);
  /** Of the waiting slots; `next` also chains the free ones. */
  #next = new Int32Array(0);
  #previous = new Int32Array(0);
  #firstFree = NO_SLOT;
  #oldest = NO_SLOT;
  #newest = NO_SLOT;

  /** The slot that waits longest, or -1. */
  get oldest(): number {
    return this.#oldest;
  }

  /** A slot in use once. */
  take(ref: number, handle: number, frame: number, writable: boolean): number {
    if (this.#firstFree === NO_SLOT) this.#grow();
    const slot = this.#firstFree;
    this.#firstFree = this.#next[slot]!;
    this.ref[slot] = ref;
    this.handle[slot] = handle;
    this.frame[slot] = frame;
    this.isWritable[slot] = writable ? 1 : 0;
    this.useCount[slot] = 1;
    return slot;
  }

  /** Gives back a slot that is not in the list. */
  give(slot: number): void {
    this.useCount[slot] = 0;
    this.#next[slot] = this.#firstFree;
    this.#firstFree = slot;
  }

  /** A slot waits from now on. */
  append(slot: number, now: number): void {
    this.usedAt[slot] = now;
    this.#next[slot] = NO_SLOT;
    this.#previous[slot] = this.#newest;
    if (this.#newest === NO_SLOT) this.#oldest = slot;
    else this.#next[this.#newest] = slot;
    this.#newest = slot;
  }

  /** Takes a slot out of the list. */
  unlink(slot: number): void {
    const previous = this.#previous[slot]!;
    const next = this.#next[slot]!;
    if (previous === NO_SLOT) this.#oldest = next;
    else this.#next[previous] = next;
    if (next === NO_SLOT) this.#newest = previous;
    else this.#previous[next] = previous;
  }

  #grow(): void {
    const before = this.ref.length;
    const capacity = Math.max(CAPACITY_INITIAL, before * 2);
    this.ref = grown(this.ref, new Uint32Array(capacity));
    this.handle = grown(this.handle, new Int32Array(capacity));
    this.frame = grown(this.frame, new Uint32Array(capacity));
    this.isWritable = grown(this.isWritable, new Uint8Array(capacity));
    this.useCount = grown(this.useCount, new Uint32Array(capacity));
    this.usedAt = grown(this.usedAt, new Float64Array(capacity));
    this.#next = grown(this.#next, new Int32Array(capacity));
    this.#previous = grown(this.#previous, new Int32Array(capacity));
    for (let slot = capacity - 1; slot >= before; slot--) {
      this.#next[slot] = this.#firstFree;
      this.#firstFree = slot;
    }
  }
}

function grown<T extends Uint32Array | Int32Array | Uint8Array | Float64Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
