import { TransportError, type DriverTransport } from './contract.ts';

/** Knows whether the device is gone, from the first step of bringing it up until the driver lets go. */
export class GoneWatch {
  readonly #transport: DriverTransport;
  readonly #gone: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #reason: string | undefined;
  #handler: ((reason: string) => void) | undefined;

  constructor(transport: DriverTransport) {
    this.#transport = transport;
    transport.onGone((reason) => {
      this.#reason = reason;
      this.#gone.resolve();
      this.#handler?.(reason);
    });
  }

  /** Runs at once when the device is gone already. */
  onGone(handler: (reason: string) => void): void {
    this.#handler = handler;
    if (this.#reason !== undefined) handler(this.#reason);
  }

  /**
   * Resolves when no device touches this driver's memory any more: it confirmed its reset, or it is gone for good.
   * An operation may learn before `onGone` that the device is going (`ENODEV`); only the latter says that it has let go.
   */
  async reset(): Promise<void> {
    if (this.#reason !== undefined) return;
    try {
      await Promise.race([this.#transport.writeStatus(0), this.#gone.promise]);
    } catch (error) {
      if (!(error instanceof TransportError) || error.code !== 'ENODEV') throw error;
      await this.#gone.promise;
    }
  }

  stop(): void {
    this.#handler = undefined;
    this.#transport.onGone(undefined);
  }
}
