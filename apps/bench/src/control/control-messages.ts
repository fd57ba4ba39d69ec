/** What a guest of the control plane's benchmark is asked; it answers with a `RunResult`. */
export type ControlRequest =
  /** Initialises the driver of its disk and resets the device again, so many times. */
  | { readonly op: 'bring-up'; readonly count: number }
  /** Requests to xenstore, `depth` at once. */
  | {
      readonly op: 'xenstore';
      readonly what: StoreOperation;
      readonly depth: number;
      readonly count: number;
    };

export type StoreOperation = 'read' | 'write' | 'transaction';
