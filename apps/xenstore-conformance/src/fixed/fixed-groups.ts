import { createHash } from 'node:crypto';
import type { Script, Step } from '../script.ts';
import type { Transcript } from '../transcript.ts';
import { play } from '../player.ts';
import type { Subject } from '../subjects/subject.ts';
import { type FixedCase, type FixedGroup, stepsOf } from './fixed-case.ts';
import { GOLDEN_GROUPS } from './golden.ts';
import { LIMIT_GROUPS } from './limits.ts';
import { PERMISSION_GROUPS } from './permissions.ts';
import { DOM0_PROBES, GUEST_PROBES, TRANSACTION_PROBES } from './probes.ts';
import { RING_GROUPS } from './rings.ts';
import { SESSION_GROUPS } from './sessions.ts';
import { STALE_GROUPS } from './stale-views.ts';

/** Everything that is always compared. */
export const FIXED_GROUPS: readonly FixedGroup[] = [
  ...GOLDEN_GROUPS,
  ...SESSION_GROUPS,
  ...PERMISSION_GROUPS,
  ...LIMIT_GROUPS,
  ...RING_GROUPS,
  ...STALE_GROUPS,
  DOM0_PROBES,
  GUEST_PROBES,
  TRANSACTION_PROBES,
];

/** A case with its steps, and what a daemon answered to them. */
export interface PlayedCase {
  readonly group: string;
  readonly case: FixedCase;
  readonly script: Script;
  readonly transcript: Transcript;
}

/** `/case/` and something short that belongs to the name alone, so that new cases leave recordings valid. */
export function homeOf(group: FixedGroup, { name }: FixedCase): string {
  const digest = createHash('sha256').update(`${group.name}: ${name}`).digest('hex');
  return `/case/${digest.slice(0, 8)}`;
}

/** The steps of a case. */
export function scriptOf(group: FixedGroup, one: FixedCase): Script {
  return stepsOf(one.rows, homeOf(group, one));
}

/** Plays a group; with `only` just that case, on a daemon of its own. */
export async function playGroup(
  group: FixedGroup,
  subject: Subject,
  only?: FixedCase,
): Promise<PlayedCase[]> {
  const before = stepsOf(group.before ?? [], '/before');
  const cases = only === undefined ? group.cases : [only];
  const scripts = cases.map((one) => scriptOf(group, one));
  const results: PlayedCase[] = [];
  if (group.isolated === true) {
    for (const [index, script] of scripts.entries()) {
      const transcript = await play([...before, ...script], subject);
      results.push({
        group: group.name,
        case: cases[index]!,
        script,
        transcript: transcript.slice(before.length),
      });
    }
    return results;
  }
  const whole: Step[] = [...before];
  for (const script of scripts) whole.push({ kind: 'close all' }, ...script);
  const transcript = await play(whole, subject);
  let start = before.length;
  for (const [index, script] of scripts.entries()) {
    start += 1;
    const end = start + script.length;
    results.push({
      group: group.name,
      case: cases[index]!,
      script,
      transcript: transcript.slice(start, end),
    });
    start = end;
  }
  return results;
}
