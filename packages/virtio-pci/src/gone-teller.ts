import type { AioContext, BottomHalf } from '@virtlab/aio';

/** `DriverTransport.onGone`: told once to each handler, from the driver's loop, never from inside an operation. */
export class GoneTeller implements Disposable {
  readonly #later: BottomHalf;
  #reason: string | undefined;
  #handler: ((reason: string) => void) | undefined;

  constructor(aio: AioContext) {
    this.#later = aio.createBottomHalf(() => this.#tell());
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#handler = handler;
    if (this.#reason !== undefined && handler !== undefined) this.#later.schedule();
  }

  gone(reason: string): void {
    this.#reason = reason;
    this.#later.schedule();
  }

  [Symbol.dispose](): void {
    this.#handler = undefined;
    this.#later[Symbol.dispose]();
  }

  #tell(): void {
    const handler = this.#handler;
    if (this.#reason === undefined || handler === undefined) return;
    this.#handler = undefined;
    handler(this.#reason);
  }
}
