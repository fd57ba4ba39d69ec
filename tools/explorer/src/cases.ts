import {
  type Exploration,
  type ExplorationResult,
  MEMORY_MODELS,
  type MemoryModel,
  formatFailure,
} from './exploration.ts';
import { explore } from './explore.ts';

/** A mistake made on purpose: what an exploration is worth is shown by its being found. */
export interface PlantedBug {
  readonly name: string;
  readonly exploration: Exploration;
  /** Where it must be found, and is not found elsewhere. Default: under both. */
  readonly foundUnder?: readonly MemoryModel[];
}

/** Explorations that must find nothing, and planted bugs, each of which must be found. */
export interface ExplorationCase {
  readonly name: string;
  /** One, or several that are counted together. */
  readonly exploration: Exploration | readonly Exploration[];
  /** Default: both. */
  readonly memoryModels?: readonly MemoryModel[];
  readonly bugs: readonly PlantedBug[];
}

/** Counts of all explorations of a case under one memory model. */
export interface CaseCounts {
  readonly memoryModel: MemoryModel;
  readonly explorationCount: number;
  /** The most. */
  readonly threadCount: number;
  readonly stateCount: number;
  readonly transitionCount: number;
  readonly endCount: number;
  readonly holds: boolean;
}

export interface CaseOutcome {
  readonly name: string;
  readonly counts: readonly CaseCounts[];
  /** Each counts once for each memory model under which it must be found. */
  readonly bugsFound: number;
  readonly bugsPlanted: number;
  /** Everything that is not as it must be; empty when the case holds. */
  readonly problems: readonly string[];
}

export function runCase(each: ExplorationCase): CaseOutcome {
  const { name, memoryModels = MEMORY_MODELS, bugs } = each;
  const explorations = 'threads' in each.exploration ? [each.exploration] : each.exploration;
  const problems: string[] = [];
  const counts = memoryModels.map((memoryModel) => {
    const results = explorations.map((exploration) => {
      const result = explore(exploration, memoryModel);
      const problem = problemOf(result);
      if (problem !== undefined) problems.push(`${name}, ${memoryModel}: ${problem}`);
      return result;
    });
    return sum(memoryModel, results);
  });
  let bugsFound = 0;
  let bugsPlanted = 0;
  for (const bug of bugs) {
    const { foundUnder = memoryModels } = bug;
    bugsPlanted += foundUnder.length;
    for (const memoryModel of memoryModels) {
      const isFound = explore(bug.exploration, memoryModel).failure !== undefined;
      if (isFound && foundUnder.includes(memoryModel)) bugsFound += 1;
      if (isFound === foundUnder.includes(memoryModel)) continue;
      problems.push(`${name}, ${memoryModel}: "${bug.name}" is ${isFound ? '' : 'not '}found`);
    }
  }
  return { name, counts, bugsFound, bugsPlanted, problems };
}

function problemOf({ failure, isComplete, stateCount }: ExplorationResult): string | undefined {
  if (failure !== undefined) return formatFailure(failure);
  return isComplete ? undefined : `not complete after ${stateCount} states`;
}

function sum(memoryModel: MemoryModel, results: readonly ExplorationResult[]): CaseCounts {
  const total = (count: (result: ExplorationResult) => number): number =>
    results.reduce((all, result) => all + count(result), 0);
  return {
    memoryModel,
    explorationCount: results.length,
    threadCount: Math.max(...results.map(({ threadCount }) => threadCount)),
    stateCount: total(({ stateCount }) => stateCount),
    transitionCount: total(({ transitionCount }) => transitionCount),
    endCount: total(({ endCount }) => endCount),
    holds: results.every((result) => problemOf(result) === undefined),
  };
}

/** `VIRTLAB_CAMPAIGN`: how much further than by default the bounds go. */
export function campaignFactor(): number {
  return Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
}

/** One line for the output of a test. */
export function summaryLine({ name, counts, bugsFound, bugsPlanted }: CaseOutcome): string {
  const texts = counts.map(
    ({ memoryModel, stateCount, transitionCount, endCount }) =>
      `${memoryModel} ${stateCount} states, ${transitionCount} transitions, ${endCount} ends`,
  );
  return `${name}: ${texts.join('; ')}; ${bugsFound} of ${bugsPlanted} planted bugs found`;
}
