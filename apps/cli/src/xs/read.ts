import type { Command } from 'commander';
import { type StoreFlags, orFail, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { escapeValue, jsonDocument, jsonValue } from './values.ts';

interface ReadFlags extends StoreFlags {
  readonly prefix: boolean;
  readonly raw: boolean;
}

/** `virtlab xs read`: xenstore-read(1). Several values are read in one transaction. */
export function readCommand(): Command {
  return storeCommand('read')
    .argument('<key...>', 'paths; relative ones are those of domain 0')
    .option('-p, --prefix', 'put "key: " before each value', false)
    .option('-R, --raw', 'print the bytes as they are, without a line end', false)
    .action(read);
}

function read(keys: readonly string[], flags: ReadFlags): Promise<void> {
  return withStore(flags, (store) =>
    inTransaction(store, keys.length > 1, async (access, output) => {
      const found: object[] = [];
      for (const path of keys) {
        const value = await orFail(access.read(path), `couldn't read path ${path}`);
        if (flags.json) {
          found.push({ path, ...jsonValue(value) });
          continue;
        }
        if (flags.prefix) output.add(`${path}: `);
        output.add(flags.raw ? value : `${escapeValue(value)}\n`);
      }
      if (flags.json) output.add(jsonDocument(found));
    }),
  );
}
