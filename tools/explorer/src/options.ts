import { parseArgs } from 'node:util';

export interface ExplorerOptions {
  /** Parts of names of the explorations to run; none: all. */
  readonly names: readonly string[];
  /** Put the table into `docs/signalling.md`. */
  readonly isWrite: boolean;
  readonly isHelp: boolean;
}

/** Arguments that cannot be worked with; `message` says which and why. */
export class ExplorerUsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ExplorerUsageError';
  }
}

export const USAGE: string = `Usage: npm run explore -- [options] [name...]

Goes through every interleaving of all explorations of the workspace (*.explore.ts), or of those whose name contains one of the
names, and prints how many there are and whether they hold.

  --write  put the table into docs/signalling.md, if all of them hold; takes all explorations
  --help   this text

Exit codes: 0 all hold, 1 one does not, or a file cannot be loaded, 2 bad arguments.
`;

/** Throws `ExplorerUsageError`. */
export function parseExplorerOptions(args: readonly string[]): ExplorerOptions {
  const { values, positionals } = parse(args);
  const isWrite = values.write ?? false;
  if (isWrite && positionals.length > 0) {
    throw new ExplorerUsageError(
      `--write and ${positionals.join(', ')}: the table is written from a run of all`,
    );
  }
  return { names: positionals, isWrite, isHelp: values.help ?? false };
}

/** Of those whose name contains one of the wanted, or all. Throws `ExplorerUsageError` for a wanted one that names none. */
export function chosen<Case extends { readonly name: string }>(
  cases: readonly Case[],
  wanted: readonly string[],
): readonly Case[] {
  for (const part of wanted) {
    if (cases.some(({ name }) => name.includes(part))) continue;
    const names = cases.map(({ name }) => `  ${name}\n`).join('');
    throw new ExplorerUsageError(`no exploration's name contains ${part}. There are:\n${names}`);
  }
  return wanted.length === 0 ? cases : cases.filter(({ name }) => wanted.some((part) => name.includes(part)));
}

const CONFIG = {
  options: { write: { type: 'boolean' }, help: { type: 'boolean' } },
  allowPositionals: true,
} as const;

function parse(args: readonly string[]): ReturnType<typeof parseArgs<typeof CONFIG>> {
  try {
    return parseArgs({ ...CONFIG, args: [...args] });
  } catch (error) {
    throw new ExplorerUsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
