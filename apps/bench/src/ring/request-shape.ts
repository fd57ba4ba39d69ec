/** Entries of the ring, and requests between two publications on either side. */
export const RING_SIZE = 256;
export const BATCH_COUNT = 16;

export interface RequestShape {
  /** Buffers of a request: the first device-readable, the others device-writable. */
  readonly bufferCount: number;
  readonly isIndirect: boolean;
  /** What the design allows for one request. */
  readonly budgetNs: number | undefined;
}
