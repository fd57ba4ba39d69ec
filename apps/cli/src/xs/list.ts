import type { Command } from 'commander';
import { type StoreFlags, orFail, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { jsonDocument } from './values.ts';

interface ListFlags extends StoreFlags {
  readonly prefix: boolean;
}

/** `virtlab xs list`: xenstore-list(1). All in one transaction. */
export function listCommand(): Command {
  return storeCommand('list')
    .argument('<key...>')
    .option('-p, --prefix', 'put "key/" before each name', false)
    .action(list);
}

function list(keys: readonly string[], flags: ListFlags): Promise<void> {
  return withStore(flags, (store) =>
    inTransaction(store, true, async (access, output) => {
      const found: object[] = [];
      for (const path of keys) {
        const children = await orFail(access.directory(path), `could not list path ${path}`);
        found.push({ path, children });
        if (flags.json) continue;
        for (const name of children) output.add(`${flags.prefix ? `${path}/` : ''}${name}\n`);
      }
      if (flags.json) output.add(jsonDocument(found));
    }),
  );
}
