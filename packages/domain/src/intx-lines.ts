import type { AioContext, BottomHalf } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { XEN_PAGES } from '@virtlab/hypervisor';
import type { IntxLine } from '@virtlab/virtio-pci';

/** Functions of a slot; only function 0 has a line, INTA#. */
const FUNCTION_COUNT = 8;
const SLOT_COUNT = 32;

/** Device model side: the line of a slot, a bit of a word that the domain reads. `ring` wakes the domain. */
export function intxLine(xen: MemoryRegion, slot: number, ring: () => void): IntxLine {
  const index = XEN_PAGES.intxLines / 4;
  const bit = 1 << slot;
  return {
    set: (level) => {
      if (!level) {
        Atomics.and(xen.i32, index, ~bit);
        return;
      }
      Atomics.or(xen.i32, index, bit);
      ring();
    },
  };
}

/** Interrupts in a row that nobody wanted before a line is shut, as Linux shuts one (kernel/irq/spurious.c). */
const UNWANTED_COUNT_MAX = 1000;

interface AttendedLine {
  readonly handler: () => boolean;
  unwantedCount: number;
}

/**
 * Domain side: level-triggered lines. `poll` runs the handlers of those that are up, each once, and has the loop come
 * back while one stays up; a line that nobody can lower is shut.
 */
export class IntxLines implements Disposable {
  /** Times a handler ran, and lines that were shut. */
  interruptCount = 0;
  shutCount = 0;
  readonly #words: Int32Array;
  readonly #again: BottomHalf;
  readonly #attended: (AttendedLine | undefined)[] = Array.from({ length: SLOT_COUNT });
  /** Bits of the slots whose lines are attended to and not shut. */
  #enabled = 0;

  constructor(xen: MemoryRegion, aio: AioContext) {
    this.#words = xen.i32;
    this.#again = aio.createBottomHalf(() => void this.poll());
  }

  /** As `InterruptController.onLine`: undefined for functions without a line and for lines that are attended to. */
  onLine(bdf: number, handler: () => boolean): Disposable | undefined {
    const slot = bdf / FUNCTION_COUNT;
    if (!Number.isInteger(slot) || slot < 0 || slot >= SLOT_COUNT) return undefined;
    if (this.#attended[slot] !== undefined) return undefined;
    const line = { handler, unwantedCount: 0 };
    this.#attended[slot] = line;
    this.#enabled |= 1 << slot;
    this.#again.schedule(); // it may be up already
    return {
      [Symbol.dispose]: () => {
        if (this.#attended[slot] !== line) return;
        this.#attended[slot] = undefined;
        this.#enabled &= ~(1 << slot);
      },
    };
  }

  poll(): boolean {
    const levels = this.#up();
    if (levels === 0) return false;
    for (let bits = levels; bits !== 0; bits &= bits - 1) this.#run(31 - Math.clz32(bits & -bits));
    if (this.#up() !== 0) this.#again.schedule();
    return true;
  }

  [Symbol.dispose](): void {
    this.#attended.fill(undefined);
    this.#enabled = 0;
    this.#again[Symbol.dispose]();
  }

  #up(): number {
    return Atomics.load(this.#words, XEN_PAGES.intxLines / 4) & this.#enabled;
  }

  #run(slot: number): void {
    const line = this.#attended[slot];
    if (line === undefined) return; // a handler of another line let this one go
    this.interruptCount += 1;
    line.unwantedCount = line.handler() ? 0 : line.unwantedCount + 1;
    if (line.unwantedCount < UNWANTED_COUNT_MAX) return;
    this.#enabled &= ~(1 << slot);
    this.shutCount += 1;
  }
}
