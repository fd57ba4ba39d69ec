/** What repeated measurements of one thing came to. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly sampleCount: number;
}

/** Of an even number of samples, the median is the mean of the middle two. Throws `RangeError` for none, or one that is no number. */
export function summarize(samples: readonly number[]): Summary {
  if (samples.length === 0) throw new RangeError('There are no samples');
  const wrong = samples.find((sample) => !Number.isFinite(sample));
  if (wrong !== undefined) throw new RangeError(`Sample ${wrong} is not a finite number`);
  const sorted = samples.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)]!;
  const median = Number.isInteger(middle) ? (sorted[middle - 1]! + upper) / 2 : upper;
  return { median, min: sorted[0]!, max: sorted.at(-1)!, sampleCount: sorted.length };
}

/** How many times as long `ours` took as `peer`, by the medians: below 1 we are faster. */
export function ratio(ours: Summary, peer: Summary): number {
  if (!(peer.median > 0)) throw new RangeError(`A peer's median of ${peer.median} is not positive`);
  return ours.median / peer.median;
}
