import type { Command } from 'commander';
import { type StoreFlags, XsFailure, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { jsonDocument } from './values.ts';

/** `virtlab xs exists`: xenstore-exists(1). Says nothing but its exit code. All in one transaction. */
export function existsCommand(): Command {
  return storeCommand('exists').argument('<key...>').action(exists);
}

function exists(keys: readonly string[], flags: StoreFlags): Promise<void> {
  return withStore(flags, (store) =>
    inTransaction(store, true, async (access, output) => {
      const found: { readonly path: string; readonly exists: boolean }[] = [];
      for (const path of keys) {
        const isThere = await access.read(path).then(
          () => true,
          () => false,
        );
        found.push({ path, exists: isThere });
        if (!isThere && !flags.json) throw new XsFailure('');
      }
      if (flags.json) output.add(jsonDocument(found));
      if (!found.every((each) => each.exists)) throw new XsFailure('');
    }),
  );
}
