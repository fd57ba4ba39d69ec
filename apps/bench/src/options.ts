import { parseArgs } from 'node:util';
import { GROUP_NAMES, type GroupName, isGroupName } from './group-names.ts';

export interface BenchOptions {
  readonly groups: readonly GroupName[];
  readonly isQuick: boolean;
  readonly isJson: boolean;
  /** Rewrite the page of figures from this run. */
  readonly isWrite: boolean;
  readonly isHelp: boolean;
}

/** Arguments that cannot be worked with; `message` says which and why. */
export class BenchUsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BenchUsageError';
  }
}

export const HELP: string = `Usage: npm run bench -- [options]

Measures each layer beside a peer that does the same work.

Options:
  --only <group>  run this group only; may be repeated. Groups: ${GROUP_NAMES.join(', ')}
  --quick         few and short rounds: does it work, and roughly how fast
  --json          one JSON document on stdout instead of tables
  --write         rewrite docs/performance.md from this run; takes all groups
  --help          this text

Exit codes: 0 measured, 1 something failed, 2 bad arguments, 3 this machine cannot run what was asked for.
`;

/** Throws `BenchUsageError`. */
export function parseBenchOptions(args: readonly string[]): BenchOptions {
  const { values } = parse(args);
  const only = values.only ?? [];
  for (const name of only) {
    if (!isGroupName(name)) {
      throw new BenchUsageError(`--only ${name}: the groups are ${GROUP_NAMES.join(', ')}`);
    }
  }
  const isWrite = values.write ?? false;
  if (isWrite && only.length > 0) {
    throw new BenchUsageError('--write and --only: the page is written from a run of all groups');
  }
  return {
    groups: only.length === 0 ? GROUP_NAMES : GROUP_NAMES.filter((name) => only.includes(name)),
    isQuick: values.quick ?? false,
    isJson: values.json ?? false,
    isWrite,
    isHelp: values.help ?? false,
  };
}

function parse(args: readonly string[]): ReturnType<typeof parseArgs<typeof CONFIG>> {
  try {
    return parseArgs({ ...CONFIG, args: [...args] });
  } catch (error) {
    throw new BenchUsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

const CONFIG = {
  options: {
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean' },
    json: { type: 'boolean' },
    write: { type: 'boolean' },
    help: { type: 'boolean' },
  },
  strict: true,
  allowPositionals: false,
} as const;
