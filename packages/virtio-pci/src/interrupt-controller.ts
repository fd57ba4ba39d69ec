import type { AioContext, EventNotifier } from '@virtlab/aio';
import type { IntxLine, MsiSink } from './pci-function.ts';

/** What a device must write where, to raise a vector (PCI §6.8.2). Unsigned 32-bit words. */
export interface MsiMessage {
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
}

/** Vectors of one function; disposing frees them, and messages that still arrive are dropped. */
export interface InterruptVectors extends Disposable {
  /** One for each vector. */
  readonly messages: readonly MsiMessage[];
  /**
   * The handler runs in the controller's context after the message was sent: coalesced, never lost, and it sees
   * everything that the device wrote before. Undefined removes it. Throws `RangeError` for an index that is none.
   */
  onVector(index: number, handler: (() => void) | undefined): void;
}

/** The driver domain's interrupt controller. Across processes the messages name event-channel or doorbell bits. */
export interface InterruptController {
  /** `count` vectors, or undefined when there are not that many: the caller then asks for fewer. */
  allocateVectors(count: number): InterruptVectors | undefined;
  /**
   * Attends to the INTx line of a function: `handler` runs while the line is up, and answers whether its device wanted
   * something. Undefined when the function's pin leads nowhere.
   */
  onLine(bdf: number, handler: () => boolean): Disposable | undefined;
}

export interface InterruptStatistics {
  /** Messages for a vector that is allocated, and others (dropped). */
  readonly messageCount: number;
  readonly strayMessageCount: number;
  /** Lines shut because nobody wanted their interrupts. */
  readonly shutLineCount: number;
}

/** In-process controller: also the place where devices send, and the owner of the lines they pull. */
export interface InProcessInterruptController extends InterruptController, MsiSink {
  /** The line that the function at `bdf` pulls. */
  line(bdf: number): IntxLine;
  readonly statistics: InterruptStatistics;
}

export interface InterruptControllerOptions {
  /** Vectors of the whole domain. Default 2048. */
  readonly vectorCountMax?: number;
}

/** `aio` is the driver's context: handlers run there, whoever sends. */
export function createInterruptController(
  aio: AioContext,
  options: InterruptControllerOptions = {},
): InProcessInterruptController {
  return new AioInterruptController(aio, options.vectorCountMax ?? 2048);
}

/** Where x86 puts message-signalled interrupts, in the local APIC's range; the data names the vector. */
const MESSAGE_ADDRESS = 0xfee0_0000;

class AioInterruptController implements InProcessInterruptController {
  readonly statistics = { messageCount: 0, strayMessageCount: 0, shutLineCount: 0 };
  readonly #aio: AioContext;
  readonly #vectors: (Vector | undefined)[];
  readonly #lines = new Map<number, Line>();

  constructor(aio: AioContext, vectorCountMax: number) {
    this.#aio = aio;
    this.#vectors = Array.from({ length: vectorCountMax });
  }

  allocateVectors(count: number): InterruptVectors | undefined {
    const numbers = this.#freeNumbers(count);
    if (numbers === undefined) return undefined;
    const vectors = numbers.map((number) => (this.#vectors[number] = new Vector(this.#aio)));
    return {
      messages: numbers.map((data) => ({ addressLow: MESSAGE_ADDRESS, addressHigh: 0, data })),
      onVector: (index, handler) => {
        const vector = vectors[index];
        if (vector === undefined) throw new RangeError(`Vector ${index} of ${vectors.length}`);
        vector.handler = handler;
      },
      [Symbol.dispose]: () => {
        for (const number of numbers.splice(0)) this.#vectors[number] = undefined;
        for (const vector of vectors) vector[Symbol.dispose]();
      },
    };
  }

  send(addressLow: number, addressHigh: number, data: number): void {
    const vector = addressLow === MESSAGE_ADDRESS && addressHigh === 0 ? this.#vectors[data] : undefined;
    if (vector === undefined) {
      this.statistics.strayMessageCount++;
      return;
    }
    this.statistics.messageCount++;
    vector.raise();
  }

  line(bdf: number): IntxLine {
    let line = this.#lines.get(bdf);
    if (line === undefined) {
      line = new Line(this.#aio, () => void this.statistics.shutLineCount++);
      this.#lines.set(bdf, line);
    }
    return line;
  }

  onLine(bdf: number, handler: () => boolean): Disposable | undefined {
    return this.#lines.get(bdf)?.attend(handler);
  }

  #freeNumbers(count: number): number[] | undefined {
    const free: number[] = [];
    for (let number = 0; number < this.#vectors.length && free.length < count; number++) {
      if (this.#vectors[number] === undefined) free.push(number);
    }
    return free.length === count ? free : undefined;
  }
}

class Vector implements Disposable {
  handler: (() => void) | undefined;
  readonly #notifier: EventNotifier;
  readonly #registration: Disposable;

  constructor(aio: AioContext) {
    const notifier = aio.createEventNotifier();
    this.#notifier = notifier;
    this.#registration = aio.addHandler(notifier, {
      onReady: () => {
        notifier.testAndClear();
        this.handler?.();
      },
    });
  }

  raise(): void {
    this.#notifier.set();
  }

  [Symbol.dispose](): void {
    this.handler = undefined;
    this.#registration[Symbol.dispose]();
    this.#notifier[Symbol.dispose]();
  }
}

/** Interrupts in a row that nobody wanted before a line is shut, as Linux shuts one (kernel/irq/spurious.c). */
const UNWANTED_COUNT_MAX = 1000;

class Line implements IntxLine {
  readonly #aio: AioContext;
  readonly #onShut: () => void;
  #level = false;
  #notifier: EventNotifier | undefined;
  #unwantedCount = 0;

  constructor(aio: AioContext, onShut: () => void) {
    this.#aio = aio;
    this.#onShut = onShut;
  }

  set(level: boolean): void {
    this.#level = level;
    if (level) this.#notifier?.set();
  }

  attend(handler: () => boolean): Disposable | undefined {
    if (this.#notifier !== undefined) return undefined;
    const notifier = this.#aio.createEventNotifier();
    this.#notifier = notifier;
    this.#unwantedCount = 0;
    const registration = this.#aio.addHandler(notifier, {
      onReady: () => {
        notifier.testAndClear();
        this.#run(handler, notifier);
      },
    });
    if (this.#level) notifier.set();
    return {
      [Symbol.dispose]: () => {
        if (this.#notifier !== notifier) return;
        this.#notifier = undefined;
        registration[Symbol.dispose]();
        notifier[Symbol.dispose]();
      },
    };
  }

  /** Level-triggered: runs again, from the loop, while the line is up; a line that nobody can lower is shut. */
  #run(handler: () => boolean, notifier: EventNotifier): void {
    if (!this.#level || this.#unwantedCount >= UNWANTED_COUNT_MAX) return;
    this.#unwantedCount = handler() ? 0 : this.#unwantedCount + 1;
    if (this.#unwantedCount === UNWANTED_COUNT_MAX) this.#onShut();
    else if (this.#level && this.#notifier === notifier) notifier.set();
  }
}
