import { APIC_VECTOR_MAX } from '@virtlab/abi/msi';
import type { AioContext } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { POSTED_BIT_COUNT, PostedBits, XEN_PAGES } from '@virtlab/hypervisor';
import type { InterruptController, InterruptVectors } from '@virtlab/virtio-pci';
import { IntxLines } from './intx-lines.ts';
import { msiMessage } from './msi-message.ts';

/** The last vector, which no message can name, tells that a slot changed, as a hotplug GPE does. */
export const HOTPLUG_VECTOR: number = POSTED_BIT_COUNT - 1;
/** Where an x86 kernel starts with devices' vectors: behind the exceptions. */
const FIRST_VECTOR = 0x20;

/**
 * An HVM domain's interrupts: vectors are bits that its device model posts and lines are levels that it sets, both in the
 * domain's own pages; handlers run in the domain's upcall.
 */
export class PostedInterruptController implements InterruptController, Disposable {
  vectorCount = 0;
  readonly lines: IntxLines;
  readonly #bits: PostedBits;
  readonly #handlers: ((() => void) | undefined)[] = Array.from({ length: POSTED_BIT_COUNT });
  readonly #taken = new Uint8Array(POSTED_BIT_COUNT);
  readonly #take = (vector: number): void => {
    this.vectorCount += 1;
    this.#handlers[vector]?.();
  };

  constructor(xen: MemoryRegion, aio: AioContext) {
    this.lines = new IntxLines(xen, aio);
    this.#bits = new PostedBits(xen, XEN_PAGES.postedVectors);
  }

  onVector(vector: number, handler: (() => void) | undefined): void {
    this.#handlers[vector] = handler;
  }

  /** Answers whether there was anything. */
  poll(): boolean {
    const isLine = this.lines.poll();
    if (!this.#bits.hasOutstanding()) return isLine;
    return this.#bits.drain(this.#take) > 0 || isLine;
  }

  allocateVectors(count: number): InterruptVectors | undefined {
    const vectors: number[] = [];
    for (let vector = FIRST_VECTOR; vector <= APIC_VECTOR_MAX && vectors.length < count; vector += 1) {
      if (this.#taken[vector] === 0) vectors.push(vector);
    }
    if (vectors.length < count) return undefined;
    for (const vector of vectors) this.#taken[vector] = 1;
    return {
      messages: vectors.map(msiMessage),
      onVector: (index, handler) => {
        const vector = vectors[index];
        if (vector === undefined) throw new RangeError(`Vector ${index} of ${vectors.length}`);
        this.onVector(vector, handler);
      },
      [Symbol.dispose]: () => {
        for (const vector of vectors.splice(0)) {
          this.#taken[vector] = 0;
          this.onVector(vector, undefined);
        }
      },
    };
  }

  onLine(bdf: number, handler: () => boolean): Disposable | undefined {
    return this.lines.onLine(bdf, handler);
  }

  [Symbol.dispose](): void {
    this.#handlers.fill(undefined);
    this.lines[Symbol.dispose]();
  }
}
