import { type Comparison, type Difference, compare } from './compare.ts';
import { generateScript } from './generate.ts';
import type { Theme } from './generate-request.ts';
import type { KnownDifference } from './known-differences.ts';
import { play } from './player.ts';
import type { Script } from './script.ts';
import { shrink } from './shrink.ts';
import type { Subject } from './subjects/subject.ts';
import { sideBySide } from './transcript.ts';

export interface CampaignOptions {
  readonly ours: Subject;
  /** Takes the place of `ours` in every fourth script. */
  readonly oursToo?: Subject;
  readonly theirs: Subject;
  readonly known: readonly KnownDifference[];
  readonly seed: number;
  /** What the scripts are about, in turn by seed. Default: the usual. */
  readonly themes?: readonly Theme[];
  /** Of all scripts together. */
  readonly stepCount: number;
  /** Default 250. */
  readonly scriptStepCount?: number;
}

export interface CampaignResult {
  /** Steps that were really compared. */
  readonly stepCount: number;
  readonly scriptCount: number;
  readonly known: ReadonlySet<string>;
  readonly failure: CampaignFailure | undefined;
}

export interface CampaignFailure {
  /** Repeats the script that failed. */
  readonly seed: number;
  readonly script: Script;
  readonly differences: readonly Difference[];
  /** Both daemons’ answers to the smallest script that differs, for people. */
  readonly report: string;
}

/** Plays random scripts until the steps are used up or the first unknown difference, which it makes small. */
export async function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const scriptStepCount = Math.min(options.scriptStepCount ?? 250, options.stepCount);
  const known = new Set<string>();
  let stepCount = 0;
  let scriptCount = 0;
  while (scriptCount * scriptStepCount < options.stepCount) {
    const seed = options.seed + scriptCount;
    const themes = options.themes ?? ['usual'];
    const theme = themes[seed % themes.length] ?? 'usual';
    const script = generateScript({ seed, stepCount: scriptStepCount, theme });
    const ours = scriptCount % 4 === 3 ? (options.oursToo ?? options.ours) : options.ours;
    const played = await playBoth(script, ours, options);
    stepCount += played.comparison.stepCount;
    for (const name of played.comparison.known) known.add(name);
    scriptCount += 1;
    if (played.comparison.unknown.length > 0) {
      return { stepCount, scriptCount, known, failure: await explain(script, seed, ours, options, played) };
    }
  }
  return { stepCount, scriptCount, known, failure: undefined };
}

type Peers = Pick<CampaignOptions, 'theirs' | 'known'>;

interface PlayedPair {
  readonly comparison: Comparison;
  readonly report: string;
}

async function playBoth(script: Script, ours: Subject, { theirs, known }: Peers): Promise<PlayedPair> {
  const [left, right] = [await play(script, ours), await play(script, theirs)];
  const report = sideBySide(
    script,
    { name: ours.name, transcript: left },
    { name: theirs.name, transcript: right },
  );
  return { comparison: compare(script, left, right, known), report };
}

/** Makes a script small in which the two daemons differ, and shows it. `played` is what showed the difference. */
export async function explain(
  script: Script,
  seed: number,
  ours: Subject,
  peers: Peers,
  played: PlayedPair,
): Promise<CampaignFailure> {
  const differs = async (candidate: Script): Promise<boolean> => {
    return (await playBoth(candidate, ours, peers)).comparison.unknown.length > 0;
  };
  const first = played.comparison.unknown[0]?.index ?? script.length - 1;
  const smallest = await shrink(script.slice(0, first + 1), differs);
  const { comparison, report } = await playBoth(smallest, ours, peers);
  if (comparison.unknown.length > 0) {
    return { seed, script: smallest, differences: comparison.unknown, report };
  }
  const again = `The difference did not come again, so the script could not be made smaller.\n${played.report}`;
  return { seed, script, differences: played.comparison.unknown, report: again };
}
