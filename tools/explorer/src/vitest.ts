import { describe, expect, it } from 'vitest';
import { type ExplorationCase, campaignFactor, runCase, summaryLine } from './cases.ts';

/** A test for each case: nothing is found, except all the planted bugs. Prints the counts. */
export function describeExplorations(title: string, cases: readonly ExplorationCase[]): void {
  describe(title, () => {
    it.each(cases.map((each) => [each.name, each] as const))(
      '%s: nothing is lost, and planted bugs are found',
      (_name, each) => {
        const outcome = runCase(each);
        console.log(summaryLine(outcome));
        expect(outcome.problems).toEqual([]);
        for (const { stateCount, endCount } of outcome.counts) {
          expect(stateCount).toBeGreaterThan(0);
          expect(endCount).toBeGreaterThan(0);
        }
      },
      campaignFactor() > 1 ? 1_800_000 : 60_000,
    );
  });
}
