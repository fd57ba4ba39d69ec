/** Slots whose result nobody took yet, in the order of completion. Never more than there are slots. */
export class SlotBacklog {
  count = 0;
  readonly #slots: Uint32Array;
  #first = 0;

  constructor(depth: number) {
    this.#slots = new Uint32Array(depth);
  }

  push(slot: number): void {
    const slots = this.#slots;
    slots[(this.#first + this.count) % slots.length] = slot;
    this.count += 1;
  }

  /** Only where there is one. */
  shift(): number {
    const slots = this.#slots;
    const slot = slots[this.#first]!;
    this.#first = (this.#first + 1) % slots.length;
    this.count -= 1;
    return slot;
  }
}
