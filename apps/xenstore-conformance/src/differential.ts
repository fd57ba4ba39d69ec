import { type Difference, compare } from './compare.ts';
import type { ExpectedOutcome, FixedGroup } from './fixed/fixed-case.ts';
import { type PlayedCase, homeOf, playGroup } from './fixed/fixed-groups.ts';
import { type KnownDifference, knownDifferencesOf } from './known-differences.ts';
import type { Subject } from './subjects/subject.ts';
import { sideBySide } from './transcript.ts';

/** One case, played to our daemon and to the one it imitates. */
export interface CaseResult {
  readonly group: string;
  readonly name: string;
  readonly unknown: readonly Difference[];
  readonly known: readonly string[];
  /** What the last step should have brought about on both; undefined when the case says nothing, or it did. */
  readonly unexpected: string | undefined;
  /** Both transcripts side by side. */
  readonly report: string;
}

/** What a daemon answered to a group; a recording can stand in for playing. */
export type Answers = (group: FixedGroup) => Promise<readonly PlayedCase[]>;

export const answersOf = (subject: Subject): Answers => {
  return (group) => playGroup(group, subject);
};

export interface FixedOptions {
  readonly profile: string;
  readonly ours: Answers;
  readonly theirs: Answers;
  /** Default: those of the profile. */
  readonly known?: readonly KnownDifference[];
}

/** Compares all cases of the groups. */
export async function compareFixed(
  groups: readonly FixedGroup[],
  options: FixedOptions,
): Promise<CaseResult[]> {
  const known = options.known ?? knownDifferencesOf(options.profile);
  const results: CaseResult[] = [];
  for (const group of groups) {
    const ours = await options.ours(group);
    const theirs = await options.theirs(group);
    for (const [index, mine] of ours.entries()) {
      const peer = theirs[index];
      if (peer?.case.name !== mine.case.name)
        throw new Error(`No answers to ${group.name}: ${mine.case.name}`);
      results.push(compareCase(group, mine, peer, options.profile, known));
    }
  }
  return results;
}

function compareCase(
  group: FixedGroup,
  mine: PlayedCase,
  peer: PlayedCase,
  profile: string,
  known: readonly KnownDifference[],
): CaseResult {
  const comparison = compare(mine.script, mine.transcript, peer.transcript, known);
  const expected = mine.case.last === undefined ? undefined : expectedFor(mine.case.last, profile);
  const wanted = expected?.replaceAll('$', homeOf(group, mine.case));
  const really = peer.transcript.at(-1)?.join(' ; ');
  return {
    group: group.name,
    name: mine.case.name,
    unknown: comparison.unknown,
    known: [...comparison.known],
    unexpected: wanted === undefined || wanted === really ? undefined : `${really} instead of ${wanted}`,
    report: sideBySide(
      mine.script,
      { name: `virtlab ${profile}`, transcript: mine.transcript },
      { name: 'the real one', transcript: peer.transcript },
    ),
  };
}

function expectedFor(last: ExpectedOutcome, profile: string): string | undefined {
  if (typeof last === 'string') return last;
  if (profile === 'c-head') return last.head ?? last.c;
  return profile === 'oxenstored' ? (last.oxenstored ?? last.c) : last.c;
}
