import { ICH9_PIRQ_GSI_BASE, ICH9_SLOT_PIRQ_BASE, ICH9_SLOT_PIRQ_COUNT } from '@virtlab/abi/pc-chipset';
import type { AioContext, AioPoller, Timer } from '@virtlab/aio';
import { type MemoryRegion, PAGE_SIZE } from '@virtlab/guest-memory';
import {
  type InterruptController,
  type InterruptVectors,
  type MsiMessage,
  createInterruptController,
} from '@virtlab/virtio-pci';

/** Without anything else to do, how often messages are looked for. */
const LOOK_PERIOD_MS = 1;
const WORD_SIZE = 4;
const RAISED = 1;

interface Slot {
  /** Index in the page's words. */
  readonly word: number;
  /** What the loop's controller knows the vector by. */
  readonly message: MsiMessage;
}

/**
 * The driver's interrupt controller before a QEMU without a processor to interrupt. A message of MSI-X is a 32-bit write to
 * memory, so each vector gets a word of its own in a page of RAM, and whoever looks there finds it raised: a poller of the
 * loop, and a timer. INTx comes as the I/O APIC's inputs that qtest intercepts.
 */
export class RamInterrupts implements InterruptController, AioPoller, Disposable {
  readonly #inner: ReturnType<typeof createInterruptController>;
  readonly #memory: MemoryRegion;
  readonly #pageOffset: number;
  readonly #slots = new Map<number, Slot>();
  readonly #timer: Timer;
  readonly #poller: Disposable;
  /** The functions that pull each input. */
  readonly #lines = new Map<number, Set<number>>();
  readonly #vectorCountMax: number;
  #messageCount = 0;
  #lineCount = 0;

  /**
   * `pageOffset`: a page of the memory, at the same guest address, which is this object's until disposed. At most
   * `vectorCountMax` vectors (default and most: as many words as a page has).
   */
  constructor(aio: AioContext, memory: MemoryRegion, pageOffset: number, vectorCountMax?: number) {
    this.#inner = createInterruptController(aio);
    this.#memory = memory;
    this.#pageOffset = pageOffset;
    this.#vectorCountMax = Math.min(vectorCountMax ?? Infinity, PAGE_SIZE / WORD_SIZE);
    this.#timer = aio.createTimer(() => {
      this.poll();
      this.#rearm();
    });
    this.#poller = aio.addPoller(this);
  }

  /** Messages that were found, and times that an input went up. */
  get statistics(): { readonly messageCount: number; readonly lineCount: number } {
    return { messageCount: this.#messageCount, lineCount: this.#lineCount };
  }

  allocateVectors(count: number): InterruptVectors | undefined {
    const words = this.#freeWords(count);
    const inner = words === undefined ? undefined : this.#inner.allocateVectors(count);
    if (words === undefined || inner === undefined) return undefined;
    for (const [index, word] of words.entries()) {
      this.#memory.u32[this.#wordIndex(word)] = 0;
      this.#slots.set(word, { word: this.#wordIndex(word), message: inner.messages[index]! });
    }
    this.#rearm();
    return {
      messages: words.map((word) => ({
        addressLow: this.#pageOffset + word * WORD_SIZE,
        addressHigh: 0,
        data: RAISED,
      })),
      onVector: (index, handler) => inner.onVector(index, handler),
      [Symbol.dispose]: () => {
        for (const word of words.splice(0)) this.#slots.delete(word);
        inner[Symbol.dispose]();
        if (this.#slots.size === 0) this.#timer.disarm();
      },
    };
  }

  onLine(bdf: number, handler: () => boolean): Disposable | undefined {
    const input = inputOf(bdf);
    const functions = this.#lines.get(input) ?? new Set();
    this.#lines.set(input, functions.add(bdf));
    this.#inner.line(bdf);
    return this.#inner.onLine(bdf, handler);
  }

  /** The I/O APIC's input went up or down. */
  setInput(input: number, level: boolean): void {
    if (level) this.#lineCount += 1;
    for (const bdf of this.#lines.get(input) ?? []) this.#inner.line(bdf).set(level);
  }

  /** Takes the messages that have arrived. */
  poll(): boolean {
    let isAny = false;
    for (const { word, message } of this.#slots.values()) {
      if (this.#memory.u32[word] === 0 || Atomics.exchange(this.#memory.u32, word, 0) === 0) continue;
      this.#messageCount += 1;
      isAny = true;
      this.#inner.send(message.addressLow, message.addressHigh, message.data);
    }
    return isAny;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
    this.#poller[Symbol.dispose]();
  }

  #rearm(): void {
    if (this.#slots.size > 0) this.#timer.arm(LOOK_PERIOD_MS);
  }

  #wordIndex(word: number): number {
    return this.#pageOffset / WORD_SIZE + word;
  }

  #freeWords(count: number): number[] | undefined {
    const free: number[] = [];
    for (let word = 0; word < this.#vectorCountMax && free.length < count; word += 1) {
      if (!this.#slots.has(word)) free.push(word);
    }
    return free.length === count ? free : undefined;
  }
}

/** Where INTA# of a function on a q35's bus 0 arrives: the slots take turns at four inputs. */
function inputOf(bdf: number): number {
  const slot = bdf >>> 3;
  return ICH9_PIRQ_GSI_BASE + ICH9_SLOT_PIRQ_BASE + (slot % ICH9_SLOT_PIRQ_COUNT);
}
