import type { BlkioCompletions } from './contract.ts';

/** For `poll`: room for `capacity` completions at once. Throws `RangeError` unless it is a positive integer. */
export function createCompletions(capacity: number): BlkioCompletions {
  if (!Number.isInteger(capacity) || capacity < 1)
    throw new RangeError(`Completion capacity ${capacity} is not a positive integer`);
  return { count: 0, tokens: new Float64Array(capacity), results: new Int32Array(capacity) };
}
