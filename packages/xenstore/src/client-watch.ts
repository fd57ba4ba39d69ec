import type { XenstoreWatch, XenstoreWatchEvent } from './contract.ts';

/** Distinct paths that may wait for the iteration. */
export const WATCH_QUEUE_COUNT = 16_384;

type Waiter = (result: IteratorResult<XenstoreWatchEvent, undefined>) => void;

/** One live registration of a client: hands events to its handler, or keeps them for its iteration. */
export class ClientWatch implements XenstoreWatch {
  readonly path: string;
  readonly token: string;
  readonly #handler: ((event: XenstoreWatchEvent) => void) | undefined;
  readonly #unregister: (watch: ClientWatch) => Promise<void>;
  readonly #queueCount: number;
  /** Events not yet taken by the iteration; identical ones once, as the daemon does. By path. */
  readonly #queue = new Map<string, XenstoreWatchEvent>();
  #waiter: Waiter | undefined;
  /** Called once, when no event can come any more. */
  onEnd: (() => void) | undefined;
  #isEnded = false;
  #closing: Promise<void> | undefined;

  constructor(
    path: string,
    token: string,
    handler: ((event: XenstoreWatchEvent) => void) | undefined,
    unregister: (watch: ClientWatch) => Promise<void>,
    queueCount: number = WATCH_QUEUE_COUNT,
  ) {
    this.path = path;
    this.token = token;
    this.#handler = handler;
    this.#unregister = unregister;
    this.#queueCount = queueCount;
  }

  /** Whether an event of this token can be meant for this watch and not for another with the same token. */
  covers(path: string): boolean {
    return path === this.path || this.path === '/' || path.startsWith(`${this.path}/`);
  }

  deliver(event: XenstoreWatchEvent): void {
    if (this.#isEnded) return;
    if (this.#handler !== undefined) {
      callSafely(this.#handler, event);
    } else if (this.#waiter !== undefined) {
      const waiter = this.#waiter;
      this.#waiter = undefined;
      waiter({ done: false, value: event });
    } else {
      this.#enqueue(event);
    }
  }

  /** No event any more: the daemon has forgotten the watch, or the connection is gone. */
  end(): void {
    this.#isEnded = true;
    this.onEnd?.();
    this.onEnd = undefined;
    this.#waiter?.({ done: true, value: undefined });
    this.#waiter = undefined;
  }

  close(): Promise<void> {
    if (this.#closing === undefined) {
      const wasEnded = this.#isEnded;
      this.#queue.clear();
      this.end();
      this.#closing = wasEnded ? Promise.resolve() : this.#unregister(this);
    }
    return this.#closing;
  }

  [Symbol.asyncIterator](): AsyncIterator<XenstoreWatchEvent, undefined> {
    if (this.#handler !== undefined) throw new TypeError(`The watch on ${this.path} has a handler`);
    return {
      next: () => this.#next(),
      return: async () => {
        await this.close();
        return { done: true, value: undefined };
      },
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Nothing is kept beside an overflow but later events, which come after it. */
  #enqueue(event: XenstoreWatchEvent): void {
    if (this.#queue.size >= this.#queueCount && !this.#queue.has(event.path)) {
      this.#queue.clear();
      this.#queue.set(this.path, { path: this.path, token: this.token, isOverflow: true });
    } else if (this.#queue.get(event.path)?.isOverflow !== true) {
      this.#queue.set(event.path, event);
    }
  }

  #next(): Promise<IteratorResult<XenstoreWatchEvent, undefined>> {
    const [event] = this.#queue.values();
    if (event !== undefined) {
      this.#queue.delete(event.path);
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#isEnded) return Promise.resolve({ done: true, value: undefined });
    if (this.#waiter !== undefined)
      throw new TypeError(`The watch on ${this.path} is already being waited for`);
    return new Promise((resolve) => {
      this.#waiter = resolve;
    });
  }
}

/** A handler that throws must not take the connection down; its error is reported as any uncaught one. */
function callSafely(handler: (event: XenstoreWatchEvent) => void, event: XenstoreWatchEvent): void {
  try {
    handler(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
