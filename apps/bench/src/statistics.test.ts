import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ratio, summarize } from './statistics.ts';

describe('summarize', () => {
  it('gives median, least and greatest of an odd number of samples in any order', () => {
    expect(summarize([30, 10, 20])).toEqual({ median: 20, min: 10, max: 30, sampleCount: 3 });
  });

  it('takes the mean of the middle two of an even number', () => {
    expect(summarize([4, 1, 3, 100]).median).toBe(3.5);
  });

  it('sorts as numbers, not as text', () => {
    expect(summarize([9, 10, 100]).median).toBe(10);
  });

  it('as many samples are below the median as above, and none outside min and max', () => {
    const samples = fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(samples, (values) => {
        const { median, min, max } = summarize(values);
        const below = values.filter((value) => value < median).length;
        const above = values.filter((value) => value > median).length;
        expect(Math.max(below, above)).toBeLessThanOrEqual(values.length / 2);
        expect(values.every((value) => value >= min && value <= max)).toBe(true);
      }),
    );
  });

  it('leaves the samples as they were', () => {
    const samples = [3, 1, 2];
    summarize(samples);
    expect(samples).toEqual([3, 1, 2]);
  });

  it('refuses no samples and samples that are no numbers', () => {
    expect(() => summarize([])).toThrow(RangeError);
    expect(() => summarize([1, Number.NaN])).toThrow('NaN');
    expect(() => summarize([1, Infinity])).toThrow(RangeError);
  });
});

describe('ratio', () => {
  it('is ours over the peer, by the medians: above 1 when we are slower', () => {
    expect(ratio(summarize([1, 20, 21]), summarize([9, 10, 500]))).toBe(2);
  });

  it('refuses a peer that took no time', () => {
    expect(() => ratio(summarize([1]), summarize([0]))).toThrow(RangeError);
  });
});
