import type { Command } from 'commander';
import { type StoreFlags, orFail, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { jsonDocument, unescapeValue } from './values.ts';

interface WriteFlags extends StoreFlags {
  readonly raw: boolean;
}

/** `virtlab xs write`: xenstore-write(1). Several values are written in one transaction. */
export function writeCommand(): Command {
  return storeCommand('write')
    .argument('<key>')
    .argument('<value>', 'may contain \\t \\n \\r \\\\ \\x41 \\101')
    .argument('[more...]', 'further keys and values')
    .option('-R, --raw', 'take the value as it is', false)
    .action(write);
}

function write(
  key: string,
  value: string,
  more: readonly string[],
  flags: WriteFlags,
  command: Command,
): Promise<void> {
  if (more.length % 2 !== 0) command.error(`error: no value for key '${more.at(-1)}'`);
  const pairs: [string, string][] = [[key, value]];
  for (let i = 0; i < more.length; i += 2) pairs.push([more[i]!, more[i + 1]!]);
  return withStore(flags, (store) =>
    inTransaction(store, pairs.length > 1, async (access, output) => {
      for (const [path, text] of pairs) {
        await orFail(
          access.write(path, flags.raw ? text : unescapeValue(text)),
          `could not write path ${path}`,
        );
      }
      if (flags.json) output.add(jsonDocument({ written: pairs.map(([path]) => path) }));
    }),
  );
}
