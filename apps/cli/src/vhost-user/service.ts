/** What a device's thread runs until it is told to end. */
export interface Service {
  /** SIGHUP: looks at what may have changed outside, the size of an image. */
  refresh?(): void;
  /** Ends connections and gives everything back. Rejects with `EndError` for what went wrong outside of this program. */
  close(): Promise<void>;
}

/** It ran, and something is not as the user wants it. The message is for the user. */
export class EndError extends Error {
  override readonly name = 'EndError';
}

/** What the main thread tells the device's. */
export type ThreadRequest = 'end' | 'refresh';
