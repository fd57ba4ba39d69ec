import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { XenstoreProfile } from '@virtlab/xenstore';
import { FIXED_GROUPS } from './fixed/fixed-groups.ts';
import { type PeerName, profileNamed } from './peers.ts';
import { RANDOM_STEP_COUNT, randomSeeds } from './random-defaults.ts';

export const USAGE: string = `Usage: npm run xenstore-conformance -- [options]

  --daemon c|oxenstored|c-head   whom to compare with; default c, oxenstored and the recording of c-head
  --program FILE                 another program than Debian's; needed for c-head unless the recording is enough
  --profile NAME                 our profile; default the one that imitates the daemon
  --seed N, --steps N            random scripts: first seed (VIRTLAB_SEED, or those of the tests), steps from each
                                 (${RANDOM_STEP_COUNT} x VIRTLAB_CAMPAIGN)
  --case TEXT                    only fixed cases whose "group: name" contains it; prints both transcripts
  --record c-head                writes the answers of --program to the recording
  --write                        writes docs/xenstore-conformance.md
  --findings FILE                writes every unknown difference to a file
  --help                         this text

Exit codes: 0 nothing unknown, 1 a difference that is not known, or something failed, 2 bad arguments.
`;

/** Arguments that cannot be worked with; `message` says which and why. */
export class ConformanceUsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ConformanceUsageError';
  }
}

export type FixedGroups = typeof FIXED_GROUPS;

export interface ConformanceOptions {
  readonly peerNames: readonly PeerName[];
  readonly program: string | undefined;
  readonly profile: XenstoreProfile | undefined;
  readonly seeds: readonly number[];
  readonly stepCount: number;
  readonly groups: FixedGroups;
  /** `groups` are those of `--case`: their transcripts are shown, and nothing random is run. */
  readonly isCase: boolean;
  readonly findings: string | undefined;
  readonly task: 'help' | 'compare' | 'record' | 'write';
}

const PEER_NAMES: readonly PeerName[] = ['c', 'oxenstored', 'c-head'];

/** With VIRTLAB_SEED and VIRTLAB_CAMPAIGN of `env`. Throws `ConformanceUsageError`. */
export function parseConformanceOptions(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ConformanceOptions {
  const { daemon, program, profile, seed, steps, case: text, record, write, findings, help } = parse(args);
  if (record !== undefined && record !== 'c-head') refuse(`--record ${record}: only c-head is recorded`);
  if (record !== undefined && program === undefined) refuse('--record c-head needs --program');
  if (program !== undefined && !existsSync(program)) refuse(`--program ${program}: there is no such file`);
  const peer = PEER_NAMES.find((name) => name === daemon);
  if (daemon !== undefined && peer === undefined)
    refuse(`--daemon ${daemon}: it is one of ${PEER_NAMES.join(', ')}`);
  const stepCount = steps ?? String(Math.ceil(RANDOM_STEP_COUNT * Number(env['VIRTLAB_CAMPAIGN'] ?? 1)));
  return {
    peerNames: peer === undefined ? PEER_NAMES : [peer],
    program,
    profile: profile === undefined ? undefined : profileOption(profile),
    seeds: randomSeeds(seed === undefined ? env['VIRTLAB_SEED'] : String(wholeNumber('--seed', seed))),
    stepCount: wholeNumber('--steps', stepCount),
    groups: text === undefined ? FIXED_GROUPS : groupsWith(text),
    isCase: text !== undefined,
    findings,
    task: help === true ? 'help' : record !== undefined ? 'record' : write === true ? 'write' : 'compare',
  };
}

function profileOption(name: string): XenstoreProfile {
  try {
    return profileNamed(name);
  } catch (error) {
    throw new ConformanceUsageError(`--profile: ${(error as Error).message}`, { cause: error });
  }
}

function groupsWith(text: string): FixedGroups {
  const groups = FIXED_GROUPS.map((group) => ({
    ...group,
    cases: group.cases.filter((one) => `${group.name}: ${one.name}`.includes(text)),
  })).filter(({ cases }) => cases.length > 0);
  if (groups.length === 0) {
    refuse(
      `--case ${text}: no "group: name" contains it. The groups are ${FIXED_GROUPS.map(({ name }) => name).join(', ')}`,
    );
  }
  return groups;
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) refuse(`${name} ${text} is not a whole number`);
  return value;
}

function refuse(message: string): never {
  throw new ConformanceUsageError(message);
}

const CONFIG = {
  options: {
    daemon: { type: 'string' },
    program: { type: 'string' },
    profile: { type: 'string' },
    seed: { type: 'string' },
    steps: { type: 'string' },
    case: { type: 'string' },
    record: { type: 'string' },
    write: { type: 'boolean' },
    findings: { type: 'string' },
    help: { type: 'boolean' },
  },
} as const;

function parse(args: readonly string[]): ReturnType<typeof parseArgs<typeof CONFIG>>['values'] {
  try {
    return parseArgs({ ...CONFIG, args: [...args] }).values;
  } catch (error) {
    throw new ConformanceUsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
