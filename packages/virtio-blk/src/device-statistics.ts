/** Counters since creation; of a device, or of one of its queues. */
export interface BlkDeviceStatistics {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  /** Bytes of reads and writes that succeeded. */
  readonly readSize: number;
  readonly writtenSize: number;
  /** Requests that ended with IOERR or a zone status, and with UNSUPP. */
  readonly failures: number;
  readonly unsupported: number;
  /** Reads and writes that an operation begun for another request did as well. */
  readonly merged: number;
}

export type BlkCounters = { -readonly [Name in keyof BlkDeviceStatistics]: number };

export function createCounters(): BlkCounters {
  return {
    reads: 0,
    writes: 0,
    flushes: 0,
    readSize: 0,
    writtenSize: 0,
    failures: 0,
    unsupported: 0,
    merged: 0,
  };
}

export function sumOf(counters: readonly BlkDeviceStatistics[]): BlkDeviceStatistics {
  const sum = createCounters();
  const names = Object.keys(sum) as (keyof BlkDeviceStatistics)[];
  for (const each of counters) for (const name of names) sum[name] += each[name];
  return sum;
}
