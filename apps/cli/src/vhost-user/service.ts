/** What a device's thread runs until it is told to end. */
export interface Service {
  /** SIGHUP: looks at what may have changed outside, the size of an image. */
  refresh?(): void;
  /** Ends connections and gives everything back. */
  close(): Promise<void>;
}

/** What the main thread tells the device's. */
export type ThreadRequest = 'end' | 'refresh';
