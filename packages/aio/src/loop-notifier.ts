import type { AioHandler, EventNotifier } from './aio-context.ts';

/**
 * A notifier of one loop. Edge triggered: each batch of sets runs the handler once, whether or not it clears.
 */
export class LoopNotifier implements EventNotifier {
  /** The loop, for identity only. */
  readonly owner: object;
  handler: AioHandler | undefined;
  /** In the loop's list of ready notifiers. */
  queued = false;
  readonly #markReady: (notifier: LoopNotifier) => void;
  readonly #deliver: ((arrive: () => void) => boolean) | undefined;
  readonly #arrive: () => void;
  #onDispose: (() => void) | undefined;
  #set = false;
  /** On its way; further sets are one with it. */
  #underWay = false;

  constructor(
    owner: object,
    markReady: (notifier: LoopNotifier) => void,
    deliver: ((arrive: () => void) => boolean) | undefined,
    onDispose: (() => void) | undefined,
  ) {
    this.owner = owner;
    this.#markReady = markReady;
    this.#deliver = deliver;
    this.#onDispose = onDispose;
    this.#arrive = () => {
      this.#underWay = false;
      this.#set = true;
      if (!this.queued && this.handler !== undefined) this.#markReady(this);
    };
  }

  set(): void {
    if (this.#deliver === undefined) {
      this.#arrive();
    } else if (!this.#underWay) {
      this.#underWay = true;
      if (!this.#deliver(this.#arrive)) this.#underWay = false;
    }
  }

  testAndClear(): boolean {
    const set = this.#set;
    this.#set = false;
    return set;
  }

  attach(handler: AioHandler): void {
    if (this.handler !== undefined) throw new TypeError('The notifier has a handler already');
    this.handler = handler;
    if (this.#set && !this.queued) this.#markReady(this);
  }

  detach(): void {
    this.handler = undefined;
  }

  [Symbol.dispose](): void {
    this.handler = undefined;
    this.#set = false;
    this.#onDispose?.();
    this.#onDispose = undefined;
  }
}
