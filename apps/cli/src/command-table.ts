import { Command, Help } from 'commander';
import { EXIT_OK } from './exit-codes.ts';

/** A command by name. What it consists of is loaded only when it is the one that runs. */
export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  /** Resolves with a command of that name; `rest` is what follows the name. Its description may be left out. */
  readonly load: (rest: readonly string[]) => Promise<Command>;
}

/** Adds all commands of the table to `parent`, and loads the one that `args` begins with. */
export async function addCommands(
  parent: Command,
  table: readonly CommandEntry[],
  args: readonly string[],
): Promise<void> {
  for (const { name, summary, load } of table) {
    const command = name === args[0] ? await load(args.slice(1)) : new Command(name);
    parent.addCommand(command.summary(summary));
    if (command.description() === '') command.description(summary);
  }
}

const plainHelp = new Help();

/** A command whose wrong arguments end the process with `usageExit`, and whose help ends it with 0. */
export function newCommand(name: string, usageExit: number): Command {
  return new Command(name)
    .exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT_OK : usageExit))
    .configureHelp({
      optionDescription: (option) =>
        option.defaultValue === false ? option.description : plainHelp.optionDescription(option),
    });
}
