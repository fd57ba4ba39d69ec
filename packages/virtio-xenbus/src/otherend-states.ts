import { XenbusState } from '@virtlab/abi/xenbus';
import type { XenbusDevice } from '@virtlab/xenbus';

/** The states of the other end, for code that waits for one and for code that wants to hear of all. */
export class OtherendStates {
  #current: XenbusState = XenbusState.Unknown;
  #hasSeen = false;
  #waiting: {
    readonly accept: (state: XenbusState) => boolean;
    readonly resolve: (state: XenbusState) => void;
  }[] = [];
  #handler: ((state: XenbusState) => void) | undefined;

  async watch(device: XenbusDevice): Promise<void> {
    await device.watchOtherend((state) => this.#update(state));
  }

  /** Called with each state from now on, the present one included; undefined removes the handler. */
  onState(handler: ((state: XenbusState) => void) | undefined): void {
    this.#handler = handler;
    if (this.#hasSeen) handler?.(this.#current);
  }

  /** Resolves with the first state that `accept` takes, the present one included. Bound it: it may never come. */
  until(accept: (state: XenbusState) => boolean): Promise<XenbusState> {
    if (this.#hasSeen && accept(this.#current)) return Promise.resolve(this.#current);
    const { promise, resolve } = Promise.withResolvers<XenbusState>();
    this.#waiting.push({ accept, resolve });
    return promise;
  }

  #update(state: XenbusState): void {
    this.#current = state;
    this.#hasSeen = true;
    const due = this.#waiting.filter(({ accept }) => accept(state));
    this.#waiting = this.#waiting.filter((each) => !due.includes(each));
    for (const { resolve } of due) resolve(state);
    this.#handler?.(state);
  }
}
