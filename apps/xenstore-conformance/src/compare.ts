import type { KnownDifference } from './known-differences.ts';
import type { Script, Step } from './script.ts';
import type { StepOutcome, Transcript } from './transcript.ts';

/** Two daemons answered a step differently. */
export interface Difference {
  /** Index of the step. */
  readonly index: number;
  readonly step: Step;
  readonly ours: StepOutcome;
  readonly theirs: StepOutcome;
}

export interface Comparison {
  readonly unknown: readonly Difference[];
  /** Names of the known differences that were met. */
  readonly known: ReadonlySet<string>;
  /** Steps that were compared; fewer than the script has when a known difference made the rest incomparable. */
  readonly stepCount: number;
}

/** Step by step; a difference that is in `known` is counted and passed over. */
export function compare(
  script: Script,
  ours: Transcript,
  theirs: Transcript,
  known: readonly KnownDifference[],
): Comparison {
  const unknown: Difference[] = [];
  const met = new Set<string>();
  for (const [index, step] of script.entries()) {
    const difference = { index, step, ours: ours[index] ?? [], theirs: theirs[index] ?? [] };
    if (isSame(difference.ours, difference.theirs)) {
      const chance = known.find((entry) => entry.byChance === true && entry.matches(difference, script));
      if (chance !== undefined) met.add(chance.name);
      continue;
    }
    const entry = known.find((candidate) => candidate.matches(difference, script));
    if (entry === undefined) unknown.push(difference);
    else met.add(entry.name);
    if (entry?.parts === true) return { unknown, known: met, stepCount: index + 1 };
  }
  return { unknown, known: met, stepCount: script.length };
}

function isSame(ours: StepOutcome, theirs: StepOutcome): boolean {
  return ours.length === theirs.length && ours.every((line, index) => line === theirs[index]);
}
