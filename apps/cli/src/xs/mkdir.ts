import type { Command } from 'commander';
import { type StoreFlags, orFail, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { jsonDocument } from './values.ts';

/** `virtlab xs mkdir`: XS_MKDIR (xenstore.txt). xenstore-utils have no such program. All in one transaction. */
export function mkdirCommand(): Command {
  return storeCommand('mkdir').argument('<key...>').action(mkdir);
}

function mkdir(keys: readonly string[], flags: StoreFlags): Promise<void> {
  return withStore(flags, (store) =>
    inTransaction(store, keys.length > 1, async (access, output) => {
      for (const path of keys) await orFail(access.mkdir(path), `could not make path ${path}`);
      if (flags.json) output.add(jsonDocument({ made: keys }));
    }),
  );
}
