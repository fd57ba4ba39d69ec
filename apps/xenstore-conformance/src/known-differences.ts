import { XSD_SOCKMSG } from '@virtlab/abi/xs-wire';
import type { Difference } from './compare.ts';
import { OPERATIONS } from './operations.ts';
import type { Script } from './script.ts';
import type { StepOutcome } from './transcript.ts';

/** A difference between a daemon and our profile of it that stays, and why. */
export interface KnownDifference {
  readonly name: string;
  /** In words, for the page. */
  readonly reason: string;
  /** Our profile in which it is. */
  readonly profile: string;
  /** Whether the stores differ from then on, so that the rest of the script cannot be compared. */
  readonly parts?: true;
  /** Whether the two differ is chance, so the entry counts as met wherever they might. */
  readonly byChance?: true;
  matches(difference: Difference, script: Script): boolean;
}

/** All of them. Each must be met by the fixed scripts, or the test that holds this list fails. */
export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    name: 'error number left over from before',
    profile: 'c-4.17',
    byChance: true,
    reason:
      'For a path that is not exactly one string, and for special names whose permissions it will not set, the daemon ' +
      'sends the value that errno has from some earlier system call, whatever that was; when it is 0 it sends nothing ' +
      'and aborts at the next request. Our profile always sends the errors that are the most frequent ones.',
    matches: ({ step, ours, theirs }) => {
      if (step.kind !== 'request' && step.kind !== 'raw') return false;
      if (!isError(ours) || !isError(theirs)) return false;
      if (step.kind === 'raw') return step.bytes.length === XSD_SOCKMSG.size;
      if (step.op === OPERATIONS.SET_PERMS) return step.payload.startsWith('@');
      return ONE_STRING.has(step.op) && step.payload.indexOf('\0') !== step.payload.length - 1;
    },
  },
  ...['c-4.17', 'c-head'].flatMap((profile): KnownDifference[] => [
    {
      name: 'end of a domain that others need',
      profile,
      parts: true,
      reason:
        'A domain that was made the target of another one, or of itself, is kept by the daemon when it dies, without its ' +
        'connection. When such a domain is introduced again the daemon crashes. Ours forgets it and introduces the new one.',
      matches: ({ step, ours, theirs }, script) =>
        step.kind === 'introduce' &&
        theirs.some((line) => line.endsWith(' ended)')) &&
        !ours.some((line) => line.endsWith(' ended)')) &&
        script.some((earlier) => earlier.kind === 'request' && earlier.op === OPERATIONS.SET_TARGET),
    },
    {
      name: 'end of the domain that owns the root',
      profile,
      parts: true,
      reason:
        'When a domain ends that was made the owner of `/` the daemon deletes the root like its other nodes, and answers ' +
        'EACCES to everything from then on. Ours gives the root back to domain 0.',
      matches: ({ index }, script) =>
        script.some((step, at) => at <= index && isEndOf(ownerOfRoot(script, at), step)),
    },
  ]),
  {
    name: 'end of the domain that owns a special name',
    profile: 'c-head',
    parts: true,
    reason:
      'When a domain ends that was made the owner of @introduceDomain or @releaseDomain the daemon tries to delete that name ' +
      'like a node, and crashes. Ours gives it back to domain 0.',
    matches: ({ theirs }, script) =>
      theirs.some((line) => line.endsWith('connection ended)') || line.endsWith('(no connection)')) &&
      script.some(
        (step) =>
          step.kind === 'request' && step.op === OPERATIONS.SET_PERMS && /^@\w+\0\w[1-9]/.test(step.payload),
      ),
  },
  {
    name: 'end of a domain that owes for a conflict',
    profile: 'oxenstored',
    parts: true,
    byChance: true,
    reason:
      'A domain whose change made the transaction of another fail owes the daemon a point for it, until a tick of 50 ms pays ' +
      'it back. When the domain dies before that, the daemon fails while it forgets the domain, since it looks for it among ' +
      'the debtors by comparing what cannot be compared: no @releaseDomain fires, and the nodes and watches of the domain ' +
      'stay until its number is released. Ours forgets the domain as ever.',
    matches: ({ step }) => step.kind === 'destroy' && step.atOnce === true,
  },
];

/** The domain that the last SET_PERMS of `/` before that step made its owner. */
function ownerOfRoot(script: Script, before: number): number {
  const given = script
    .slice(0, before)
    .findLast(
      (step) => step.kind === 'request' && step.op === OPERATIONS.SET_PERMS && step.payload.startsWith('/\0'),
    );
  return given?.kind === 'request' ? Number.parseInt(given.payload.slice(3), 10) : 0;
}

function isEndOf(domid: number, step: Script[number]): boolean {
  if (domid === 0) return false;
  if (step.kind === 'destroy') return step.domid === domid;
  return (
    step.kind === 'request' && step.op === OPERATIONS.RELEASE && Number.parseInt(step.payload, 10) === domid
  );
}

/** Operations that take exactly one path. */
const ONE_STRING: ReadonlySet<number> = new Set([
  OPERATIONS.DIRECTORY,
  OPERATIONS.READ,
  OPERATIONS.GET_PERMS,
  OPERATIONS.MKDIR,
  OPERATIONS.RM,
]);

/** Exactly an error reply, and no event. */
function isError(outcome: StepOutcome): boolean {
  return outcome.length === 1 && /^\S+> (#\d+ )?!E\w+$/.test(outcome[0]!);
}

export function knownDifferencesOf(profile: string): readonly KnownDifference[] {
  return KNOWN_DIFFERENCES.filter((entry) => entry.profile === profile);
}
