import type { AioContext, BottomHalf } from '@virtlab/aio';

/** What a driver is told from its loop, never from inside an operation: configuration changes, and the end. */
export class FrontendTeller implements Disposable {
  readonly #later: BottomHalf;
  #configHandler: (() => void) | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  #isConfigDue = false;
  #reason: string | undefined;

  constructor(aio: AioContext) {
    this.#later = aio.createBottomHalf(() => this.#tell());
  }

  onConfigChange(handler: (() => void) | undefined): void {
    this.#configHandler = handler;
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#goneHandler = handler;
    if (this.#reason !== undefined && handler !== undefined) this.#later.schedule();
  }

  configChanged(): void {
    this.#isConfigDue = true;
    this.#later.schedule();
  }

  gone(reason: string): void {
    this.#reason = reason;
    this.#later.schedule();
  }

  /** Who was not told of the end yet is told now. */
  [Symbol.dispose](): void {
    this.#later[Symbol.dispose]();
    this.#configHandler = undefined;
    this.#tell();
    this.#goneHandler = undefined;
  }

  #tell(): void {
    if (this.#isConfigDue) {
      this.#isConfigDue = false;
      this.#configHandler?.();
    }
    const handler = this.#goneHandler;
    if (this.#reason === undefined || handler === undefined) return;
    this.#goneHandler = undefined;
    handler(this.#reason);
  }
}
