import type { AioContext, Timer } from '@virtlab/aio';
import { TransportError } from '@virtlab/virtio';

const POLL_INTERVAL_MS = 1;

/**
 * Waits for device_status (§4.1.4.3.2) or queue_reset (§2.6.1.2) to read 0, a millisecond at a time as Linux does, but not
 * for ever: a device that does not come back is reported as `ETIMEDOUT`. Waiting twice at a time is one wait.
 */
export class ResetWait implements Disposable {
  readonly #aio: AioContext;
  readonly #read: () => number;
  readonly #timeoutMs: number;
  readonly #timer: Timer;
  #pending: PromiseWithResolvers<void> | undefined;
  #deadline = 0;

  /** `read` throws what the wait then rejects with. */
  constructor(aio: AioContext, read: () => number, timeoutMs: number) {
    this.#aio = aio;
    this.#read = read;
    this.#timeoutMs = timeoutMs;
    this.#timer = aio.createTimer(() => this.#look());
  }

  untilZero(): Promise<void> {
    if (this.#pending === undefined) {
      this.#pending = Promise.withResolvers<void>();
      this.#deadline = this.#aio.now() + this.#timeoutMs;
    }
    const { promise } = this.#pending;
    this.#look();
    return promise;
  }

  /** Ends the wait, if there is one: the device will not answer any more. */
  abort(reason: TransportError): void {
    if (this.#pending !== undefined) this.#settle(reason);
  }

  [Symbol.dispose](): void {
    this.abort(new TransportError('ENODEV', 'The transport was closed during a reset'));
    this.#timer[Symbol.dispose]();
  }

  #look(): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    try {
      if (this.#read() === 0) this.#settle();
      else if (this.#aio.now() < this.#deadline) this.#timer.arm(POLL_INTERVAL_MS);
      else
        throw new TransportError('ETIMEDOUT', `The device did not finish a reset in ${this.#timeoutMs} ms`);
    } catch (error) {
      this.#settle(error);
    }
  }

  #settle(error?: unknown): void {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#timer.disarm();
    if (error === undefined) pending?.resolve();
    else pending?.reject(error);
  }
}
